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
import host_models

from segcore.backbones.published import from_published, load_published, to_published
from segcore.config import default_config


def backbone_of(model: dict) -> Backbone:
    """Build the backbone of a case from its mmsegmentation config."""
    part, kind = model["backbone"], model["backbone"]["type"]
    return build_backbone(CONFIGS[kind](part), ShapeSpec(channels=3)).eval()


def config(name: str, section: str, **keys: object):
    cfg = default_config()
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.BACKBONE.FREEZE_AT = name, 0
    for key, value in keys.items():
        cfg.MODEL[section][key] = value
    return cfg


def vit(part: dict):
    return config(
        "build_vit_backbone",
        "VIT",
        IMAGE_SIZE=part["img_size"][0],
        PATCH_SIZE=part["patch_size"],
        EMBED_DIM=part["embed_dims"],
        DEPTH=part["num_layers"],
        NUM_HEADS=part["num_heads"],
        PATCH_BIAS=False,
    )


def resnet(part: dict):
    return config(
        "build_dilated_resnet_backbone",
        "RESNETS",
        DEPTH=part["depth"],
        STEM_TYPE="deeplab",
        RES4_DILATION=part["dilations"][2],
        RES5_DILATION=part["dilations"][3],
        RES5_MULTI_GRID=[1, 1, 1],
        STRIDE_IN_1X1=False,
        NORM="BN",
        WIDTH_PER_GROUP=part["base_channels"],
        RES2_OUT_CHANNELS=4 * part["base_channels"],
        STEM_OUT_CHANNELS=part["stem_channels"],
        OUT_FEATURES=["res2", "res3", "res4", "res5"],
    )


def swin(part: dict):
    return config(
        "D2SwinTransformer",
        "SWIN",
        EMBED_DIM=part["embed_dims"],
        DEPTHS=part["depths"],
        NUM_HEADS=part["num_heads"],
        WINDOW_SIZE=part["window_size"],
        PATCH_SIZE=part["patch_size"],
    )


def beit(part: dict):
    return config(
        "build_beit_backbone",
        "BEIT",
        IMAGE_SIZE=part["img_size"][0],
        PATCH_SIZE=part["patch_size"],
        EMBED_DIM=part["embed_dims"],
        DEPTH=part["num_layers"],
        NUM_HEADS=part["num_heads"],
        OUT_BLOCKS=part["out_indices"],
        NORM="BN",
    )


CONFIGS = {
    "VisionTransformer": vit,
    "ResNetV1c": resnet,
    "SwinTransformer": swin,
    "BEiT": beit,
}


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
