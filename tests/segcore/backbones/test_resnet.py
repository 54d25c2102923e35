"""ResNet with dilations: as torchvision's, as the published files, in its published forms."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from detectron2.modeling import build_backbone
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2]))
import deterministic
import host_models

from segcore.backbones.published import load_pretrained, load_published
from segcore.backbones.resnet import DEPTHS, DilatedResNet
from segcore.config import default_config
from segcore.errors import UserError

STORED = {  # of the arrays of ESSNet's cases: our map, and the part of it that is stored
    "low_level": ("res2", np.s_[:, ::9, ::3, ::3]),
    "out": ("res5", np.s_[:, ::37]),
}


def config(*opts: object):
    cfg = default_config()
    cfg.merge_from_list(["MODEL.BACKBONE.NAME", "build_dilated_resnet_backbone"])
    cfg.merge_from_list(["MODEL.RESNETS.STEM_TYPE", "basic", "MODEL.RESNETS.NORM", "BN"])
    cfg.merge_from_list(["MODEL.RESNETS.RES5_MULTI_GRID", [1, 1, 1]])
    cfg.merge_from_list(["MODEL.RESNETS.STRIDE_IN_1X1", False, "MODEL.BACKBONE.FREEZE_AT", 0])
    cfg.merge_from_list(["MODEL.RESNETS.OUT_FEATURES", ["res2", "res5"], *opts])
    return cfg


def small(output_stride: int, **options) -> DilatedResNet:
    torch.manual_seed(0)
    return DilatedResNet((1, 2, 2, 2), output_stride, width=8, stem_channels=8, **options).eval()


@pytest.mark.parametrize("stride", [32, 16, 8])
@torch.no_grad()
def test_equals_torchvision(stride: int) -> None:
    dilate = [False, stride == 8, stride < 32]
    torch.manual_seed(0)
    reference = torchvision.models.resnet50(replace_stride_with_dilation=dilate).eval()
    ours = DilatedResNet(DEPTHS[50], stride).eval()
    loaded = load_pretrained(ours, reference.state_dict())
    ours.load_state_dict({n.removeprefix("backbone."): value for n, value in loaded.items()})
    images = torch.randn(1, 3, 65, 97)
    x = reference.maxpool(reference.relu(reference.bn1(reference.conv1(images))))
    maps = ours(images)
    for index in range(4):
        x = getattr(reference, f"layer{index + 1}")(x)
        torch.testing.assert_close(maps[f"res{index + 2}"], x)
    assert ours.output_shape()["res5"].stride == stride
    assert maps["res5"].shape[-2:] == (-(-65 // stride), -(-97 // stride))


@torch.no_grad()
def test_essnet(golden: Path) -> None:
    cases = json.loads((golden / "essnet" / "cases.json").read_text())
    cases = {name: case for name, case in cases.items() if "_resnet" in str(case.get("arch"))}
    assert cases
    for name, case in cases.items():
        dilations = {16: (1, 2), 8: (2, 4)}[case["output_stride"]]
        depth = ["MODEL.RESNETS.DEPTH", int(case["arch"].rpartition("resnet")[2])]
        keys = ("MODEL.RESNETS.RES4_DILATION", "MODEL.RESNETS.RES5_DILATION")
        options = [item for pair in zip(keys, dilations, strict=True) for item in pair]
        backbone = build_backbone(config(*depth, *options)).eval()
        keys = {n: shape for n, shape in case["keys"].items() if n.startswith("backbone.")}
        loaded = load_published(backbone, host_models.published_weights(keys))
        weights = {n.removeprefix("backbone."): value for n, value in loaded.items()}
        assert backbone.load_state_dict(weights) == ([], [])
        pattern, number, height, width = case["input"]
        names = [pattern.replace("<b>", str(index)) for index in range(number)]
        images = torch.stack([deterministic.image(n, height, width) for n in names])
        mean, std = (torch.tensor(v)[:, None, None] for v in host_models.IMAGENET)
        maps = backbone((images - mean) / std)
        with np.load(golden / "essnet" / f"{name}.npz") as arrays:
            for key, (ours, part) in STORED.items():
                expected = torch.from_numpy(arrays[key])
                tolerance = 2e-5 * max(1.0, expected.std().item())
                torch.testing.assert_close(maps[ours][part], expected, atol=tolerance, rtol=0)


def test_published_names_and_shapes(golden: Path) -> None:
    keys = json.loads((golden / "hosts/keys_deeplabv3_r101d8_k150.json").read_text())["keys"]
    keys = {n.removeprefix("backbone."): s for n, s in keys.items() if n.startswith("backbone.")}
    with torch.device("meta"):
        backbone = DilatedResNet(DEPTHS[101], 8, deep_stem=True)
    assert {n: [*value.shape] for n, value in backbone.state_dict().items()} == keys


@pytest.mark.parametrize("deep_stem", [False, True])
def test_a_pre_training_has_a_classifier(deep_stem: bool) -> None:
    backbone = small(8, deep_stem=deep_stem)
    weights = dict(backbone.state_dict())
    classifier = {"fc.weight": torch.zeros(1000, 256), "fc.bias": torch.zeros(1000)}
    loaded = load_pretrained(backbone, weights | classifier)
    assert loaded.keys() == {f"backbone.{name}" for name in weights}
    assert (
        load_pretrained(backbone, weights | {"decode_head.conv_seg.bias": torch.zeros(1)}) is None
    )


@pytest.mark.parametrize("alone", [True, False])
@torch.no_grad()
def test_loads_the_names_of_detectron2(alone: bool) -> None:
    """Alone, as its pre-training, or beside a head, as in Mask2Former's checkpoints."""
    cfg = config("MODEL.RESNETS.OUT_FEATURES", ["res2", "res5"], "MODEL.DEVICE", "cpu")
    cfg.merge_from_list(["MODEL.RESNETS.WIDTH_PER_GROUP", 8, "MODEL.RESNETS.RES2_OUT_CHANNELS", 32])
    cfg.merge_from_list(["MODEL.RESNETS.STEM_OUT_CHANNELS", 8])
    cfg.merge_from_list(["MODEL.BACKBONE.NAME", "build_resnet_backbone"])
    torch.manual_seed(0)
    reference = build_backbone(cfg).eval()
    for module in reference.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
    ours = DilatedResNet(DEPTHS[50], 32, width=8, stem_channels=8).eval()
    tensors = {f"backbone.{name}": value for name, value in reference.state_dict().items()}
    if alone:
        loaded = load_pretrained(ours, tensors | {"stem.fc.bias": torch.zeros(1000)})
    else:
        loaded = load_published(ours, tensors)
    ours.load_state_dict({n.removeprefix("backbone."): value for n, value in loaded.items()})
    images = torch.randn(1, 3, 64, 96)
    found = ours(images)
    for name, values in reference(images).items():
        torch.testing.assert_close(found[name], values, rtol=1e-4, atol=1e-4)


def test_the_first_block_has_the_dilation_before() -> None:
    backbone = small(8)
    dilations = [
        [block.conv2.dilation[0] for block in getattr(backbone, f"layer{stage}")]
        for stage in (1, 2, 3, 4)
    ]
    assert dilations == [[1], [1, 1], [1, 2], [2, 4]]


def test_frozen_parts_do_not_train() -> None:
    backbone = build_backbone(config("MODEL.BACKBONE.FREEZE_AT", 2))
    trained = {name.split(".")[0] for name, p in backbone.named_parameters() if p.requires_grad}
    assert trained == {"layer2", "layer3", "layer4"}
    norms = [m for m in backbone.train().modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == sum(3 * n + 1 for n in DEPTHS[50][1:])
    published = DilatedResNet(DEPTHS[50]).state_dict()
    loaded = load_published(backbone, {f"backbone.{n}": value for n, value in published.items()})
    loaded = {name.removeprefix("backbone."): value for name, value in loaded.items()}
    assert backbone.load_state_dict(loaded) == ([], [])


@pytest.mark.parametrize("norm", ["BN", "SyncBN", "FrozenBN"])
def test_norms(norm: str) -> None:
    options = ["MODEL.RESNETS.NORM", norm, "MODEL.RESNETS.NORM_MOMENTUM", 0.01]
    backbone = build_backbone(config(*options))
    momentum = {
        m.momentum for m in backbone.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)
    }
    assert momentum == (set() if norm == "FrozenBN" else {0.01})
    assert set(backbone.output_shape()) == {"res2", "res5"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("DEPTH", 18),
        ("STEM_TYPE", "v1b"),
        ("STRIDE_IN_1X1", True),
        ("NUM_GROUPS", 2),
        ("WIDTH_PER_GROUP", 8),
        ("RES5_DILATION", 4),
        ("RES5_MULTI_GRID", [1, 2, 4]),
        ("NORM", ""),
        ("OUT_FEATURES", ["stem"]),
    ],
)
def test_what_cannot_be_built_is_one_message(key: str, value: object) -> None:
    with pytest.raises(UserError, match=rf"MODEL\.RESNETS\.{key} is"):
        build_backbone(config(f"MODEL.RESNETS.{key}", value))
