"""Config keys of experiment trackers."""

from detectron2.config import CfgNode


def add_tracker_keys(cfg: CfgNode) -> None:
    """Add ``TRACKER``, in place; :mod:`segcore.engine.tracking` reads it."""
    cfg.TRACKER = CfgNode()
    # A tracker of losses, scores and images beside TensorBoard and metrics.json: "none", "wandb",
    # "trackio" or "mlflow". Each but the first needs the extra of its name: catrank[wandb].
    cfg.TRACKER.NAME = "none"
    # The group of runs in the tracker.
    cfg.TRACKER.PROJECT = "catrank"
    # The name of the run; "": the last folder of OUTPUT_DIR.
    cfg.TRACKER.RUN = ""
    # An evaluation during training draws so many predictions, for TensorBoard too; 0 draws none.
    cfg.TRACKER.IMAGES = 4
