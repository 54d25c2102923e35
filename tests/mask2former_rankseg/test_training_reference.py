"""One training step of the whole model: losses and gradients equal those of the published code."""

import dataclasses
import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.structures import Instances
from torch import Tensor, nn

from mask2former_rankseg.checkpoint import names_of
from mask2former_rankseg.points import RandomPoints
from segcore.errors import UserError

sys.path.insert(0, str(Path(__file__).parents[1]))
import deterministic
from decisions import Decisions
from mask2former_models import RANKED, SWIN_T, build, published_weights

OPTIONS = (
    *("MODEL.RANKSEG.FLAG", True, "MODEL.RANKSEG.TOPK", 50, "MODEL.RANKSEG.LOSS_WEIGHT", 10.0),
    *("MODEL.SEM_SEG_HEAD.USE_LAYERNORM", True, "MODEL.SWIN.DROP_PATH_RATE", 0.0),
)
SIZES = ((128, 128), (96, 128))

# Relative errors, as multiples of half a unit in the last place of float32.
ULP = 2.0**-24
FEW_ULPS = 8 * ULP  # a sum in another order; the losses are computed in float32 in either run
MANY_ULPS = 2**7 * ULP  # through all layers
BACKWARD_ULPS = 2**11 * ULP  # through all layers and back


class FixedPoints(RandomPoints):
    """The points of the reference's step."""

    def __init__(self) -> None:
        super().__init__(num_points=256)
        layers = [*(f"aux{i}" for i in range(9)), "final"]
        self.matching, self.losses = iter(layers), iter(layers)

    def unit(self, name: str, number: int) -> Tensor:
        points = deterministic.noise(f"m2f/train/{name}", (number, 256, 2))
        return (points / math.sqrt(3) + 1) / 2

    def uniform(self, number: int, device: torch.device) -> Tensor:
        layer = next(self.matching)
        return torch.cat([self.unit(f"match_points/{layer}/{b}", 1) for b in range(number)])

    def uncertain(self, logits: Tensor) -> Tensor:
        return self.unit(f"loss_points/{next(self.losses)}", len(logits))


def image(name: str, height: int, width: int, labels: list, boxes: list) -> dict:
    """An image whose objects are rectangles."""
    masks = torch.zeros(len(labels), height, width, dtype=torch.bool)
    for mask, (top, left, bottom, right) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = True
    objects = Instances((height, width), gt_classes=torch.tensor(labels).long(), gt_masks=masks)
    return {"image": deterministic.image(name, height, width), "instances": objects}


@dataclass
class Step:
    """Losses, gradients by published names, and the hard decisions of a training step."""

    losses: dict[str, float]
    gradients: dict[str, Tensor]
    decisions: Decisions


def take_step(about: dict, dtype: torch.dtype, decisions: Decisions, **weights: float) -> Step:
    """The reference's step, in float32 or float64."""
    model = build(SWIN_T, *OPTIONS)
    model.load_state_dict(published_weights(model))
    for module in model.to(dtype).train().modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    criterion = model.criterion
    criterion.points = FixedPoints()
    criterion.weights = dataclasses.replace(criterion.weights, **weights)
    images = [
        image(f"m2f/train{i}", *size, labels, boxes)
        for i, (size, labels, boxes) in enumerate(
            zip(SIZES, about["labels"], about["rectangles_y0x0y1x1"], strict=True)
        )
    ]
    torch.set_default_dtype(dtype)  # of the positional encodings
    try:
        with decisions:
            losses = model(images)
    finally:
        torch.set_default_dtype(torch.float32)
    sum(losses.values()).backward()
    to_published = names_of(model).to_published
    gradients = {to_published(name): p.grad for name, p in model.named_parameters()}
    return Step({name: loss.item() for name, loss in losses.items()}, gradients, decisions)


@pytest.fixture(scope="module")
def expected(golden) -> Mapping:
    with np.load(golden / "mask2former_rankseg" / "train_step_swint_rank50.npz") as arrays:
        return dict(arrays) | {"meta": json.loads(str(arrays["meta"]))}


@pytest.fixture(scope="module")
def exact_step(expected) -> Step:
    return take_step(expected["meta"], torch.float64, Decisions())


def compare(step: Step, expected: Mapping) -> None:
    """Asserts that a step in float64, alike on all machines, is the reference's.

    The reference ran in float32, and its file says how far that was from its own float64: so far
    may it be from ours.
    """
    about = expected["meta"]
    rounding = about["fp32_vs_fp64"]
    assert step.losses.keys() == about["losses"].keys()
    for name, value in about["losses"].items():
        allowed = rounding["losses"][name] + FEW_ULPS
        assert step.losses[name] == pytest.approx(value, rel=allowed), name
    norms = about["grad_norm_per_parameter"]
    assert step.gradients.keys() == norms.keys()
    total = math.sqrt(sum(g.square().sum().item() for g in step.gradients.values()))
    assert total == pytest.approx(about["grad_norm"], rel=rounding["grad_norm_rel"] + FEW_ULPS)
    allowed = 1.01 * rounding["grad_norm_per_parameter_max_rel"]
    for name, norm in norms.items():
        found = step.gradients[name].norm().item()
        assert found == pytest.approx(norm, rel=allowed, abs=FEW_ULPS * total), name
    for key in [key for key in expected if key.startswith("grad/")]:
        wanted = torch.from_numpy(expected[key])
        found = step.gradients[key.removeprefix("grad/")]
        found = found[..., :: found.shape[-1] // wanted.shape[-1]]
        allowed = 1.01 * rounding[key]["max_abs_diff_fp64"] + FEW_ULPS * wanted.abs().max()
        assert (found - wanted).abs().max() <= allowed, key


def test_equals_reference(exact_step: Step, expected) -> None:
    compare(exact_step, expected)


def test_single_precision_only_rounds(exact_step: Step, expected) -> None:
    """Float32 decides as float64 does but at borders; decided alike, all gradients agree."""
    decisions = Decisions(of=exact_step.decisions)
    step = take_step(expected["meta"], torch.float32, decisions)
    assert len(decisions.made) == len(exact_step.decisions.made) > 400
    assert max(decisions.margins, default=0.0) <= MANY_ULPS
    assert step.losses == pytest.approx(exact_step.losses, rel=MANY_ULPS)
    for name, wanted in exact_step.gradients.items():
        error = (step.gradients[name] - wanted).abs().max()
        assert error <= BACKWARD_ULPS * wanted.abs().max(), name


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["a loss weighs one percent more", "no attention mask"])
def test_a_fault_shows(expected, monkeypatch, fault: str) -> None:
    weights = {"classes": 2.02} if "weighs" in fault else {}
    if fault == "no attention mask":
        monkeypatch.setattr(
            "mask2former_rankseg.masked_decoder.inside_mask",
            lambda embedding, features: torch.ones_like(embedding @ features, dtype=torch.bool),
        )
    step = take_step(expected["meta"], torch.float64, Decisions(), **weights)
    with pytest.raises(AssertionError):
        compare(step, expected)


# ------------------------------------------------------------------ without reference outputs


def objects(*labels: int) -> dict:
    boxes = [(4 * i, 0, 4 * i + 20, 40) for i in range(len(labels))]
    return image("m2f/tiny", 64, 64, list(labels), boxes)


@pytest.mark.parametrize("options", [{}, RANKED], ids=["plain", "ranked"])
def test_losses_of_every_layer(tiny, options: dict) -> None:
    few_points = {"MODEL.MASK_FORMER.TRAIN_NUM_POINTS": 32}
    weight = {"MODEL.RANKSEG.LOSS_WEIGHT": 10.0}
    model = tiny(few_points | weight | options).train()
    losses = model([objects(3, 5), objects()])
    kinds = {"ce", "mask", "dice"}
    suffixes = {"", "_0", "_1", "_2", "_3"}
    expected = {f"loss_{kind}{suffix}" for kind in kinds for suffix in suffixes}
    assert losses.keys() == expected | ({"loss_ml"} if options else set())
    sum(losses.values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    model.deep_supervision = False
    assert {k for k in model([objects(3)]) if k != "loss_ml"} == {f"loss_{kind}" for kind in kinds}


def test_the_oracle_has_no_head_to_train(tiny) -> None:
    model = tiny(RANKED | {"MODEL.RANKSEG.ORACLE": True}).train()
    losses = model([objects(3, 5)])
    assert "loss_ml" not in losses and losses["loss_ce"].isfinite()


def test_invalid_targets_are_one_message(tiny) -> None:
    model = tiny().train()
    with pytest.raises(UserError, match=r"class 12, but there are 12.*NUM_CLASSES"):
        model([objects(12)])
    with pytest.raises(UserError, match=r"INPUT\.DATASET_MAPPER_NAME"):
        model([{"image": torch.zeros(3, 64, 64)}])


def test_half_precision_has_the_same_losses(tiny) -> None:
    """Under autocast, where positions of deformable attention stay in float32."""
    few_points = {"MODEL.MASK_FORMER.TRAIN_NUM_POINTS": 32, "MODEL.SWIN.DROP_PATH_RATE": 0.0}
    model = tiny(few_points | RANKED).train()
    totals = []
    for enabled in (False, True):
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            losses = model([objects(3, 5), objects(1)])
        totals.append(sum(losses.values()))
    totals[1].backward()
    assert totals[1].item() == pytest.approx(totals[0].item(), rel=0.05)
    assert all(p.grad.isfinite().all() for p in model.parameters())
