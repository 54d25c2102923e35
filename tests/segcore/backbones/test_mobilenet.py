"""MobileNetV2: reference outputs, both forms, strides, and the backbone of a config."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[2]))
import deterministic

from segcore.backbones import D2MobileNetV2
from segcore.backbones.checkpoint import backbone_weights
from segcore.backbones.mobilenet import MobileNetV2
from segcore.config import default_config
from segcore.errors import UserError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
# Of the arrays of a reference case: our map, and the part of it that is stored.
STORED = {
    "low_level": ("res2", np.s_[:, ::9, ::3, ::3]),
    "out": ("res5", np.s_[:, ::37]),
}


def config(*opts: object):
    cfg = default_config()
    cfg.merge_from_list(["MODEL.BACKBONE.NAME", "build_mobilenet_backbone", *opts])
    return cfg


def reference_weights(shapes: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    filled = deterministic.weights({prefix + k: v.shape for k, v in shapes.items()})
    for name in filled:
        noise = deterministic.noise(name, tuple(filled[name].shape))
        if name.endswith("running_mean"):
            filled[name] = 0.1 * noise
        elif name.endswith("running_var"):
            filled[name] = 1 + 0.1 * noise.abs()
    return {name.removeprefix(prefix): value for name, value in filled.items()}


def cases(golden: Path) -> dict[str, dict]:
    cases = json.loads((golden / "essnet" / "cases.json").read_text())
    return {k: v for k, v in cases.items() if "mobilenet" in v.get("arch", "")}


def test_reference(golden) -> None:
    """ESSNet's release: names of the parameters, and outputs of evaluation."""
    found = cases(golden)
    assert found
    for name, case in found.items():
        model = MobileNetV2(case["output_stride"], padding="block").eval()
        state = model.state_dict()
        published = {k: v for k, v in case["keys"].items() if k.startswith("backbone.")}
        assert published == {f"backbone.{k}": [*v.shape] for k, v in state.items()}
        model.load_state_dict(reference_weights(state, "backbone."))
        prefix, batch, height, width = case["input"]
        for b in range(batch):
            image = deterministic.image(prefix.replace("<b>", str(b)), height, width) / 255
            image = (image - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
            with torch.no_grad():
                maps = model(image[None])
            with np.load(golden / "essnet" / f"{name}.npz") as stored:
                for key, (ours, part) in STORED.items():
                    error = np.abs(maps[ours].numpy()[part][0] - stored[key][b]).max()
                    assert error <= 2e-5, (name, key)


@torch.no_grad()
def test_of_the_paper_equals_torchvision() -> None:
    """Zeros around the 3x3 convolutions, stride 32; also the file of its weights."""
    torch.manual_seed(0)
    theirs = torchvision.models.mobilenet_v2().eval()
    ours = MobileNetV2(32).eval()
    ours.load_state_dict(backbone_weights(theirs.state_dict()), strict=False)
    images = torch.randn(1, 3, 65, 70)
    maps = ours(images)
    torch.testing.assert_close(maps["res5"], theirs.features[:18](images))
    torch.testing.assert_close(maps["res3"], theirs.features[:7](images))


def test_a_file_of_torchvision_is_complete() -> None:
    with torch.device("meta"):
        weights = backbone_weights(torchvision.models.mobilenet_v2().state_dict())
        state = MobileNetV2().state_dict()
    assert weights.keys() == {k for k in state if not k.endswith("num_batches_tracked")}


@torch.no_grad()
def test_batch_norm_folded_into_the_convolutions() -> None:
    torch.manual_seed(0)
    normed = MobileNetV2(8).eval()
    normed.load_state_dict(reference_weights(normed.state_dict(), ""))
    folded = MobileNetV2(8, norm=None).eval()
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    convs = [m for m in normed.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in normed.modules() if isinstance(m, nn.BatchNorm2d)]
    targets = [m for m in folded.modules() if isinstance(m, nn.Conv2d)]
    for conv, norm, target in zip(convs, norms, targets, strict=True):
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        target.weight.copy_(conv.weight * scale[:, None, None, None])
        target.bias.copy_(norm.bias - norm.running_mean * scale)
    images = torch.randn(2, 3, 33, 65)
    for name, expected in normed(images).items():
        torch.testing.assert_close(folded(images)[name], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@torch.no_grad()
def test_output_strides(output_stride: int) -> None:
    """A map of a smaller stride holds the values of the larger one: only dilation replaces it."""
    torch.manual_seed(0)
    coarse, fine = MobileNetV2(32).eval(), MobileNetV2(output_stride).eval()
    fine.load_state_dict(coarse.state_dict())
    images = torch.randn(1, 3, 97, 129)
    expected, found = coarse(images)["res5"], fine(images)["res5"]
    assert fine.strides["res5"] == output_stride
    step = 32 // output_stride
    assert [*found.shape[2:]] == [1 + 96 // output_stride, 1 + 128 // output_stride]
    torch.testing.assert_close(found[..., ::step, ::step], expected)


def test_as_a_detectron2_backbone() -> None:
    model = build_backbone(config("MODEL.MOBILENET.OUT_FEATURES", ["res2", "res4", "res5"]))
    assert isinstance(model, D2MobileNetV2)
    assert {m.momentum for m in model.modules() if isinstance(m, nn.BatchNorm2d)} == {0.01}
    assert model.output_shape() == {
        "res2": ShapeSpec(channels=24, stride=4),
        "res4": ShapeSpec(channels=96, stride=16),
        "res5": ShapeSpec(channels=320, stride=16),
    }
    assert [*model(torch.zeros(2, 3, 64, 96))] == ["res2", "res4", "res5"]
    folded = build_backbone(config("MODEL.MOBILENET.NORM", ""))
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("OUTPUT_STRIDE", 4, "8, 16 or 32"),
        ("PADDING", "same", '"block" or "depthwise"'),
        ("OUT_FEATURES", ["res6"], "among res2, res3, res4, res5"),
    ],
)
def test_wrong_keys(key: str, value: object, message: str) -> None:
    with pytest.raises(UserError, match=rf"MODEL\.MOBILENET\.{key} is .*; it has to be {message}"):
        build_backbone(config(f"MODEL.MOBILENET.{key}", value))
