"""Query2Label's head, loss and mAP, compared with outputs of the published code."""

import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))
import deterministic
import host_models

from per_pixel import Query2Label
from per_pixel.checkpoint import convert_query2label
from per_pixel.names.query2label import HEAD
from per_pixel.query2label import Query2LabelHead
from segcore.checkpoint.renaming import Renaming
from segcore.evaluation.multilabel import average_precision, multilabel_scores
from segcore.rankseg.layers import sine_positions
from segcore.rankseg.losses import asymmetric_loss

REPOSITORY = Path(__file__).parents[2]
GOLDEN = Path(os.environ.get("CATRANK_GOLDEN", REPOSITORY / ".." / "shared" / "golden"))
FOLDER = GOLDEN / "query2label"
CASES = FOLDER / "cases.json"
INPUT = re.compile(r"values\('([^']+)', ?\[([\d, ]+)\]\)")
FOCUS = {"focusing_weight_with_gradient": True, "focusing_weight_without_gradient": False}

NAMES = Renaming(HEAD)
ALL = json.loads(CASES.read_text()) if CASES.is_file() else {}
HEADS = [name for name, case in ALL.items() if "grad_norm_and_probe" in case]


class NoBackbone(nn.Module):
    """A map instead of images."""

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        return {"res5": features}


def build(config: Mapping) -> Query2Label:
    head = Query2LabelHead(
        config.get("cin") or config["d"],
        config["K"],
        hidden_dim=config["d"] if config.get("cin") else None,
        num_heads=config["heads"],
        feedforward_dim=config["ff"],
        dropout=0.0,
        encoder_layers=config["enc"],
        decoder_layers=config["dec"],
    )
    return Query2Label(
        backbone=NoBackbone(),
        head=head,
        num_classes=config["K"],
        pixel_mean=[0.0] * 3,
        pixel_std=[1.0] * 3,
    )


@pytest.mark.skipif(not ALL, reason=f"no reference outputs at {FOLDER}; set CATRANK_GOLDEN")
def test_there_are_cases() -> None:
    assert HEADS


@pytest.mark.parametrize("name", HEADS)
def test_logits_loss_and_gradients(name: str) -> None:
    case, arrays = ALL[name], np.load(FOLDER / f"{name}.npz")
    model = build(case["config"])
    published = host_models.published_weights(case["keys"])
    incompatible = model.load_state_dict(convert_query2label(model, published))
    assert not incompatible.missing_keys and not incompatible.unexpected_keys
    assert {NAMES.to_published(key) for key in model.state_dict()} == set(case["keys"])

    recipe, shape = INPUT.search(case["input"]).groups()
    features = deterministic.noise(recipe, tuple(map(int, shape.split(","))))
    positions = sine_positions(*features.shape[-2:], model.head.hidden_dim)
    memory = model.head.encode(features, positions).transpose(1, 2)
    memory = memory.unflatten(2, features.shape[-2:])
    close(memory[:, ::3], arrays["memory"], atol=1e-4)
    logits = model.head(features)
    close(logits, arrays["logits"], atol=1e-4)

    targets = torch.from_numpy(arrays["targets"])
    for focus, expected in case["grad_norm_and_probe"].items():
        model.zero_grad()
        loss = 1000 * asymmetric_loss(logits, targets, clip=0.0, focus_gradient=FOCUS[focus])
        loss.backward(retain_graph=True)
        close(loss, arrays["loss"], rtol=1e-4)
        compare_gradients(model, case["keys"], expected)


def compare_gradients(model: nn.Module, keys: Mapping, expected: Mapping) -> None:
    gradients = {NAMES.to_published(n): p.grad for n, p in model.named_parameters()}
    for key, (norm, probe) in expected.items():
        gradient = gradients[key].reshape(keys[key])
        noise = deterministic.noise(f"probe/{key}", tuple(keys[key]))
        close(gradient.norm(), norm, rtol=1e-3)
        assert abs((gradient * noise).sum().item() - probe) <= 1e-3 * max(norm, abs(probe)), key


@pytest.mark.skipif("full_head_parameters" not in ALL, reason=f"no {CASES}; set CATRANK_GOLDEN")
def test_full_heads_have_the_published_sizes() -> None:
    widths = {"r101": 2048, "tresnet_l_v2": 2048, "tresnet_l": 2432, "swin_l": 1536}
    for name, expected in ALL["full_head_parameters"].items():
        backbone, _, num_classes = name.rpartition("_k")
        with torch.device("meta"):
            head = Query2LabelHead(widths[backbone], int(num_classes))
        assert sum(p.numel() for p in head.parameters()) == expected, name


def close(found: Tensor, expected: object, atol: float = 0.0, rtol: float = 0.0) -> None:
    torch.testing.assert_close(found, torch.as_tensor(expected).to(found), atol=atol, rtol=rtol)


@pytest.mark.skipif(not (FOLDER / "map.json").is_file(), reason=f"no {FOLDER / 'map.json'}")
def test_mean_average_precision_of_the_release() -> None:
    case = json.loads((FOLDER / "map.json").read_text())
    name, shape = re.search(r"values\('([^']+)', ?\(([\d, ]+)\)\)", case["scores"]).groups()
    scores = deterministic.noise(name, tuple(map(int, shape.split(","))))
    images, classes = (torch.arange(size) for size in scores.shape)
    images, classes = images[:, None], classes[None]
    # "1 where (i (c+2) + i // (c+2)) mod (3 + c mod 3) == 0, else 0"
    value = images * (classes + 2) + images // (classes + 2)
    present = value % (3 + classes % 3) == 0
    found = 100 * average_precision(scores.T, present.T, envelope=True)
    close(found, torch.tensor(case["AP_percent"], dtype=torch.float64), atol=1e-9)
    scores = multilabel_scores(scores, present, [])
    assert abs(scores["mAP-envelope"] - case["mAP_percent"]) < 1e-9
