"""ViT-Adapter, compared with outputs of the published code."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone, build_backbone
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2]))
import deterministic
import host_models

from segcore.backbones.adapter_layers import to_tokens
from segcore.backbones.published import from_published, load_published, to_published
from segcore.config import default_config

GOLDEN = Path(os.environ.get("CATRANK_GOLDEN", Path(__file__).parents[3] / ".." / "shared/golden"))
# Every n-th channel, row and column of the maps, and of the prior's every n-th token and channel.
MAPS = {"f1": (7, 2, 2), "f2": (7, 2, 2), "f3": (5, 1, 1), "f4": (5, 1, 1), "spm0": (5, 3, 3)}
TOKENS = {"spm1": (3, 5), "spm2": (2, 5), "spm3": (1, 5)}
DERIVED = ("relative_position_index", "num_batches_tracked")


def cases() -> dict[str, dict]:
    """Return all cases by name; without the reference outputs the known one, to be skipped."""
    found = {}
    for path in sorted((GOLDEN / "hosts").glob("vit_adapter*.json")):
        found |= json.loads(path.read_text())
    return found or {"vit_adapter": {}}


CASES = cases()


def adapter(config: dict) -> Backbone:
    cfg = default_config()
    cfg.MODEL.BACKBONE.NAME = "build_beit_adapter_backbone"
    beit, node = cfg.MODEL.BEIT, cfg.MODEL.VIT_ADAPTER
    beit.IMAGE_SIZE, beit.EMBED_DIM, beit.DEPTH, beit.NUM_HEADS, beit.NORM = (
        *(config[name] for name in ("img_size", "embed_dim", "depth", "heads")),
        "BN",
    )
    node.INTERACTIONS, node.PRIOR_WIDTH, node.DEFORM_HEADS, node.DEFORM_POINTS = (
        config[name] for name in ("interaction_indexes", "conv_inplane", "deform_heads", "n_points")
    )
    node.FEEDFORWARD_RATIO, node.VALUE_RATIO = config["cffn_ratio"], config["deform_ratio"]
    return build_backbone(cfg, ShapeSpec(channels=3)).eval()


def load(backbone: Backbone, keys: dict[str, list[int]]) -> None:
    """Load the published weights of a case; their names and ours match one to one."""
    published = {name: shape for name, shape in keys.items() if not name.endswith(DERIVED)}
    ours = {f"backbone.{n}" for n in backbone.state_dict() if not n.endswith(DERIVED)}
    assert {from_published(backbone, f"backbone.{name}") for name in published} == ours
    assert {to_published(backbone, n).removeprefix("backbone.") for n in ours} == {*published}
    weights = host_models.published_weights(published)
    for name in weights:
        if name == "level_embed":
            weights[name] = 0.2 * deterministic.noise(name, published[name])
        if name.endswith("sampling_offsets.bias"):
            weights[name] = 2 * deterministic.noise(name, published[name])
    weights = load_published(backbone, {f"backbone.{n}": value for n, value in weights.items()})
    weights = {name.removeprefix("backbone."): value for name, value in weights.items()}
    assert backbone.load_state_dict(weights) == ([], [])


def close(found: Tensor, expected: np.ndarray, strides: tuple[int, ...], name: str) -> None:
    reference = torch.from_numpy(expected)
    tolerance = 2e-5 * max(1.0, reference.std().item())
    part = found[(slice(None), *(slice(None, None, step) for step in strides))]
    message = name + ": {}"
    torch.testing.assert_close(part, reference, atol=tolerance, rtol=0, msg=message.format)


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_maps(golden: Path, name: str) -> None:
    case = CASES[name] | {"mean_std": "ImageNet"}
    backbone = adapter(case["config"])
    load(backbone, case["keys"])
    images = host_models.images(case)
    maps = dict(zip(("f1", "f2", "f3", "f4"), backbone(images).values(), strict=True))
    maps["spm0"], *levels = backbone.spm(images)
    with np.load(golden / "hosts" / f"{name}.npz") as arrays:
        for key, strides in MAPS.items():
            close(maps[key], arrays[key], strides, key)
        for (key, strides), level in zip(TOKENS.items(), levels, strict=True):
            close(to_tokens(level), arrays[key], strides, key)
