"""Feature maps of the hosts' backbones, compared with outputs of the published code."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone, build_backbone
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2]))
import host_configs
import host_models

from segcore.backbones.published import from_published, load_published, to_published


def backbone_of(model: dict) -> Backbone:
    """Build the backbone of a case from its mmsegmentation config."""
    cfg = host_configs.backbone_config(model["backbone"])
    return build_backbone(cfg, ShapeSpec(channels=3)).eval()


def cases(golden: Path) -> dict[str, dict]:
    return json.loads((golden / "hosts" / "cases.json").read_text())


def load(backbone: Backbone, keys: dict) -> None:
    """Load the published weights of a case; their names and ours match one to one."""
    published = {
        name: shape for name, shape in keys.items() if name.startswith(("backbone.", "neck."))
    }
    derived = ("relative_position_index", "num_batches_tracked")
    ours = {f"backbone.{n}" for n in backbone.state_dict() if not n.endswith(derived)}
    assert {from_published(backbone, n) for n in published if not n.endswith(derived)} == ours
    assert {to_published(backbone, name) for name in ours} <= set(published)
    weights = load_published(backbone, host_models.published_weights(published))
    weights = {name.removeprefix("backbone."): value for name, value in weights.items()}
    assert backbone.load_state_dict(weights) == ([], [])


def assert_close(maps: list[Tensor], expected: list[np.ndarray], strides: tuple) -> None:
    assert len(maps) == len(expected)
    for computed, array in zip(maps, expected, strict=True):
        reference = torch.from_numpy(array)
        tolerance = 2e-5 * max(1.0, reference.std().item())
        computed = computed[:, :: strides[0], :: strides[1], :: strides[2]]
        torch.testing.assert_close(computed, reference, atol=tolerance, rtol=0)


@pytest.mark.parametrize(
    "name", ["segmenter_vit", "deeplabv3_r101d8", "upernet_swin", "upernet_beit"]
)
@torch.no_grad()
def test_hosts(golden: Path, name: str) -> None:
    case = cases(golden)[name]
    backbone = backbone_of(case["model"])
    load(backbone, case["keys"])
    with np.load(golden / "hosts" / f"{name}.npz") as arrays:
        features = [arrays[key] for key in sorted(arrays) if key.startswith("backbone")]
        pyramid = [arrays[key] for key in sorted(arrays) if key.startswith("neck")]
    images = host_models.images(case)
    maps = list(backbone(images).values())
    if pyramid:
        assert_close(maps, pyramid, (5, 3, 3))
        maps = backbone.maps(images)
    assert_close(maps, features, (3, 2, 2))
