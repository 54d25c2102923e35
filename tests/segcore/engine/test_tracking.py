"""Trackers get the losses, scores and images of a training, and continue after a resume."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils import comm
from PIL import Image

from segcore.config import load_config
from segcore.engine.evaluated_images import draw_prediction
from segcore.engine.tracking import as_pixels
from segcore.errors import UserError
from segcore.vocabulary import Vocabulary

sys.path.insert(0, str(Path(__file__).parent))
import tiny_run

CONFIG = """
MODEL: {META_ARCHITECTURE: TinySegmenter, DEVICE: cpu}
DATASETS: {TRAIN: [tiny], TEST: [tiny_files]}
DATALOADER: {NUM_WORKERS: 0}
INPUT: {DATASET_MAPPER_NAME: tiny}
SOLVER: {IMS_PER_BATCH: 2, BASE_LR: 0.1, MAX_ITER: 4, CHECKPOINT_PERIOD: 2}
TEST: {EVAL_PERIOD: 2, SAVE_SECONDS: 0.0}
TRACKER: {NAME: trackio, IMAGES: 2}
SEED: 3
"""
# The interface of trackio that is used; it notes all calls.
FAKE = """
calls = []
def init(**kwargs): calls.append(("init", kwargs))
def log(numbers, step): calls.append(("log", numbers, step))
def finish(): calls.append(("finish",))
class Image:
    def __init__(self, pixels): self.pixels = pixels
"""


@pytest.fixture
def cfg(tmp_path: Path) -> CfgNode:
    (tmp_path / "tiny.yaml").write_text(CONFIG)
    (tmp_path / "out").mkdir()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "black.png")
    items = [item | {"file_name": str(tmp_path / "black.png")} for item in DatasetCatalog["tiny"]()]
    DatasetCatalog.register("tiny_files", lambda: items)
    MetadataCatalog.get("tiny_files").set(stuff_classes=["a", "b", "c"])
    yield load_config(tmp_path / "tiny.yaml", ["OUTPUT_DIR", str(tmp_path / "out")])
    DatasetCatalog.remove("tiny_files")
    MetadataCatalog.remove("tiny_files")


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list:
    """Install the fake; return the list of its calls."""
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake/trackio.py").write_text(FAKE)
    monkeypatch.syspath_prepend(tmp_path / "fake")
    monkeypatch.delitem(sys.modules, "trackio", raising=False)
    import trackio

    yield trackio.calls
    del sys.modules["trackio"]


def train(cfg: CfgNode, *, resume: bool = False) -> None:
    trainer = tiny_run.TinyTrainer(cfg)
    trainer.resume_or_load(resume=resume)
    trainer.train()


def test_losses_scores_and_images(cfg: CfgNode, fake: list) -> None:
    train(cfg)
    begin, *logged, end = fake
    assert begin[1]["project"] == "catrank" and begin[1]["name"] == "out" and end == ("finish",)
    assert begin[1]["config"]["SOLVER"]["MAX_ITER"] == 4
    numbers = {name for _, values, _ in logged for name in values}
    assert {"total_loss", "lr", "sem_seg/pACC", "tiny_files/0", "tiny_files/1"} <= numbers
    images = [values["tiny_files/1"] for _, values, _ in logged if "tiny_files/1" in values]
    assert len(images) == 2  # the evaluations after 2 and after 4 iterations
    assert images[0].pixels.shape == (512, 1024, 3) and images[0].pixels.dtype == np.uint8
    assert {step for _, _, step in logged} <= set(range(5))


def test_tensorboard_has_the_same(cfg: CfgNode) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    cfg.TRACKER.NAME = "none"
    train(cfg)
    tags = events.EventAccumulator(cfg.OUTPUT_DIR).Reload().Tags()
    assert {"total_loss", "sem_seg/pACC"} <= set(tags["scalars"])
    assert tags["images"] == ["tiny_files/0", "tiny_files/1"]


def test_a_resumed_training_continues_its_run(cfg: CfgNode, fake: list) -> None:
    train(cfg)
    assert fake[0][1]["resume"] == "never"
    fake.clear()
    cfg.SOLVER.MAX_ITER, cfg.TRACKER.RUN = 6, "another name"
    train(cfg, resume=True)
    assert fake[0][1]["resume"] == "must" and fake[0][1]["name"] == "out"
    assert min(step for _, _, step in fake[1:-1]) >= 4


def test_other_processes_log_nothing(
    cfg: CfgNode, fake: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    train(cfg)
    assert not fake


def test_nothing_is_imported_unless_asked(
    cfg: CfgNode, fake: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "trackio")
    cfg.TRACKER.NAME = "none"
    tiny_run.TinyTrainer(cfg)
    assert "trackio" not in sys.modules
    monkeypatch.setitem(sys.modules, "trackio", None)  # as the fixture expects


def test_a_tracker_that_fails_does_not_end_the_training(
    cfg: CfgNode, fake: list, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def log(numbers: dict, step: int) -> None:
        raise ConnectionError("no server\n")

    monkeypatch.setattr(sys.modules["trackio"], "log", log)
    train(cfg)
    assert "The tracker trackio failed, training continues: no server\\n" in caplog.text
    assert "total_loss" in Path(cfg.OUTPUT_DIR, "metrics.json").read_text()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tensorbored", "'tensorbored'; there are none, wandb, trackio, mlflow"),
        ("trackio", r"not installed: pip install 'catrank\[trackio\]'"),
    ],
)
def test_user_errors(
    cfg: CfgNode, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.setattr("segcore.engine.trackers.find_spec", lambda name: None)
    cfg.TRACKER.NAME = name
    with pytest.raises(UserError, match=message):
        tiny_run.TinyTrainer(cfg)


def test_a_run_that_does_not_start_is_a_user_error(
    cfg: CfgNode, fake: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(**_: object) -> None:
        raise RuntimeError("not logged in")

    monkeypatch.setattr(sys.modules["trackio"], "init", init)
    with pytest.raises(UserError, match="trackio, whose run does not start: not logged in"):
        train(cfg)


def test_a_damaged_run_file_is_a_user_error(cfg: CfgNode, fake: list) -> None:
    train(cfg)
    cfg.SOLVER.MAX_ITER = 6
    Path(cfg.OUTPUT_DIR, "tracker.json").write_text("[]")
    with pytest.raises(UserError, match=r"tracker\.json names no run"):
        train(cfg, resume=True)


def test_wandb_offline(cfg: CfgNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    cfg.TRACKER.NAME = "wandb"
    train(cfg)
    (written,) = Path(cfg.OUTPUT_DIR).glob("wandb/offline-run-*/run-*.wandb")
    content = written.read_bytes()
    assert b"total_loss" in content and b"sem_seg/pACC" in content
    images = list(written.parent.glob("files/media/images/tiny_files/*.png"))
    assert len(images) == 4 and Image.open(images[0]).size == (1024, 512)
    assert json.loads(Path(cfg.OUTPUT_DIR, "tracker.json").read_text())["id"] in written.name


def test_mlflow_in_a_folder(cfg: CfgNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    cfg.TRACKER.NAME = "mlflow"
    train(cfg)
    cfg.SOLVER.MAX_ITER = 6
    train(cfg, resume=True)
    client = mlflow.MlflowClient()
    run = json.loads(Path(cfg.OUTPUT_DIR, "tracker.json").read_text())["id"]
    assert [point.step for point in client.get_metric_history(run, "total_loss")] == [3, 5]
    assert "sem_seg/pACC" in client.get_run(run).data.metrics
    assert {file.path for file in client.list_artifacts(run)} >= {"config.json", "images"}


@pytest.mark.parametrize("image", [torch.ones(3, 2, 4), np.full((3, 2, 4), 255, np.uint8)])
def test_pixels(image: object) -> None:
    pixels = as_pixels(image)
    assert pixels.shape == (2, 4, 3) and pixels.dtype == np.uint8 and (pixels == 255).all()


def test_drawings_of_every_kind_of_output(tmp_path: Path) -> None:
    from detectron2.structures import Instances

    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "black.png")
    item = {"file_name": str(tmp_path / "black.png")}
    left = torch.zeros(20, 30, dtype=torch.int64)
    left[:, :15] = 1
    found = Instances((20, 30))
    found.pred_masks, found.scores = left[None].bool(), torch.tensor([0.9])
    found.pred_classes = torch.tensor([1])
    segments = [{"id": 1, "category_id": 1, "isthing": True}]
    outputs = [
        {"sem_seg_labels": left},
        {"sem_seg": torch.stack([1 - left, left]).float()},
        {"panoptic_seg": (left.int(), segments)},
        {"instances": found},
    ]
    vocabulary = Vocabulary.load(["sky", "cat"])
    for output in outputs:
        drawing = draw_prediction(item, output, vocabulary)
        assert drawing.shape == (341, 1024, 3) and drawing[5, -30:].any() == (
            "sem_seg" in "".join(output)
        )
    video = {"file_names": [item["file_name"]]}
    assert draw_prediction(video, {"sem_seg_labels": left[None]}, vocabulary) is not None
    assert draw_prediction(item, {"caption": "cat"}, vocabulary) is None
