"""SeMask as in the reference outputs: its cases, and the model of a case with its weights."""

import json
import os
from pathlib import Path

import host_models
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone

from segcore.backbones import D2SeMaskSwinTransformer
from segcore.backbones.published import from_published, load_published, to_published
from segcore.config import default_config

GOLDEN = Path(os.environ.get("CATRANK_GOLDEN", Path(__file__).parents[1] / ".." / "shared/golden"))
HOSTS = GOLDEN / "hosts"


def cases() -> dict[str, dict]:
    """Return all cases by name; without the reference outputs the known one, to be skipped."""
    found = {}
    for path in sorted(HOSTS.glob("semask*.json")):
        found |= json.loads(path.read_text())
    return found or {"semask_swin": {}}


CASES = cases()


def semask(config: dict) -> D2SeMaskSwinTransformer:
    cfg = default_config()
    cfg.MODEL.BACKBONE.NAME = "D2SeMaskSwinTransformer"
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = config["num_cls"]
    names = {
        "EMBED_DIM": "embed_dim",
        "DEPTHS": "depths",
        "NUM_HEADS": "num_heads",
        "WINDOW_SIZE": "window_size",
        "SEM_WINDOW_SIZE": "sem_window_size",
        "NUM_SEM_BLOCKS": "num_sem_blocks",
        "DROP_PATH_RATE": "drop_path_rate",
        "PRETRAIN_IMG_SIZE": "pretrain_img_size",
    }
    for ours, name in names.items():
        cfg.MODEL.SWIN[ours] = config[name]
    return build_backbone(cfg, ShapeSpec(channels=3))


def load(backbone: D2SeMaskSwinTransformer, keys: dict[str, list[int]]) -> None:
    """Load the published weights; their names and ours match one to one."""
    derived = ("relative_position_index", "attn_mask")
    published = {n: shape for n, shape in keys.items() if not n.endswith(derived)}
    ours = {f"backbone.{name}" for name in backbone.state_dict()}
    assert {from_published(backbone, f"backbone.{name}") for name in published} == ours
    assert {to_published(backbone, n).removeprefix("backbone.") for n in ours} == {*published}
    weights = host_models.published_weights(published)
    weights = load_published(backbone, {f"backbone.{n}": value for n, value in weights.items()})
    weights = {name.removeprefix("backbone."): value for name, value in weights.items()}
    assert backbone.load_state_dict(weights) == ([], [])
