"""Rates and weight decay of Mask2Former and RankSeg, against the published code's."""

import json
import math
import sys
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model
from torch import nn

from mask2former_rankseg.checkpoint import names_of
from segcore.config import load_config
from segcore.engine import Trainer, build_optimizer
from segcore.errors import UserError

sys.path.insert(0, str(Path(__file__).parents[2]))
from mask2former_models import SWIN_T


@pytest.fixture
def reference(golden) -> dict:
    folder = golden / "mask2former_rankseg"
    return json.loads((folder / "optimizer_swint_rankseg.json").read_text())


def groups_by_name(*opts: object) -> dict[str, dict]:
    """The group of each parameter under its published name."""
    cfg = load_config(SWIN_T, [*opts, "MODEL.DEVICE", "meta", "MODEL.WEIGHTS", ""])
    with torch.device("meta"):
        model = build_model(cfg)
    to_published = names_of(model).to_published
    names = {parameter: to_published(name) for name, parameter in model.named_parameters()}
    groups = build_optimizer(cfg, model).param_groups
    return {names[parameter]: group for group in groups for parameter in group["params"]}


def test_every_parameter_has_its_published_learning_rate_and_decay(reference) -> None:
    groups = groups_by_name(*reference["opts"])
    assert groups.keys() == reference["params"].keys()
    for name, entry in reference["params"].items():
        group = groups[name]
        assert math.isclose(group["lr"], reference["base_lr"] * entry["lr_mult"]), name
        assert group["weight_decay"] == entry["weight_decay"], name
        assert [*group["betas"]] == reference["betas"] and group["eps"] == reference["eps"]


def test_the_learning_rate_of_the_multi_label_head(reference) -> None:
    groups = groups_by_name(*reference["opts"], "SOLVER.MLHEAD_MULTIPLIER", 5.0)
    faster = {name for name, group in groups.items() if group["lr"] > reference["base_lr"]}
    assert faster == {name for name in groups if name.startswith("ml_head.")} and faster
    assert all(math.isclose(groups[name]["lr"], 5 * reference["base_lr"]) for name in faster)


def scheduled(*opts: object) -> tuple[torch.optim.Optimizer, object]:
    cfg = load_config(SWIN_T, ["SOLVER.BASE_LR", 0.01, "SOLVER.MAX_ITER", 12, *opts])
    optimizer = build_optimizer(cfg, nn.Linear(1, 1))
    return optimizer, Trainer.build_lr_scheduler(cfg, optimizer)


def rates(optimizer: torch.optim.Optimizer, scheduler: object, steps: int) -> list[float]:
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


CASES = {
    "published": (),
    "warmed up": ("SOLVER.WARMUP_ITERS", 5, "SOLVER.WARMUP_FACTOR", 0.2),
    "constant": (
        *("SOLVER.WARMUP_ITERS", 5, "SOLVER.WARMUP_FACTOR", 0.2),
        *("SOLVER.WARMUP_METHOD", "constant", "SOLVER.POLY_LR_POWER", 2.0),
    ),
    "ending": ("SOLVER.POLY_LR_CONSTANT_ENDING", 0.4, "SOLVER.POLY_LR_POWER", 1.5),
}


@pytest.mark.parametrize("case", CASES)
def test_the_polynomial_schedule(case: str) -> None:
    """The share of the iterations that are left, to a power, times the warm-up."""
    power = {"constant": 2.0, "ending": 1.5}.get(case, 0.9)
    for iteration, rate in enumerate(rates(*scheduled(*CASES[case]), 12)):
        factor = (1 - iteration / 12) ** power
        if case in ("warmed up", "constant") and iteration < 5:
            done = iteration / 5 if case == "warmed up" else 0.0
            factor *= 0.2 * (1 - done) + done
        if case == "ending":
            factor = max(factor, 0.4)
        assert math.isclose(rate, 0.01 * factor, rel_tol=1e-12), iteration


@pytest.mark.parametrize("case", CASES)
def test_the_polynomial_schedule_goes_on_after_loading(case: str) -> None:
    whole = rates(*scheduled(*CASES[case]), 12)
    first = scheduled(*CASES[case])
    assert rates(*first, 4) == whole[:4]
    second = scheduled(*CASES[case])
    for new, old in zip(second, first, strict=True):
        new.load_state_dict(old.state_dict())
    assert rates(*second, 8) == whole[4:]


def test_an_unknown_schedule_is_one_error_message() -> None:
    with pytest.raises(UserError, match=r"SOLVER\.LR_SCHEDULER_NAME: .*Poly\b.*or PolyLR"):
        scheduled("SOLVER.LR_SCHEDULER_NAME", "Poly")
