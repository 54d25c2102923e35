"""Learning rates, groups of parameters, clipping."""

import warnings

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.projects.deeplab import add_deeplab_config, build_lr_scheduler
from detectron2.solver import build_lr_scheduler as build_core
from detectron2.solver import (
    build_optimizer,
    get_default_optimizer_params,
)
from detectron2.solver.build import (
    _expand_param_groups,
    maybe_add_gradient_clipping,
    reduce_param_groups,
)
from torch import nn

SCHEDULES = (
    "WarmupMultiStepLR",
    "WarmupCosineLR",
    "WarmupPolyLR",
    "WarmupStepWithFixedGammaLR",
)


@pytest.fixture
def facts(behaviour):
    return behaviour["training"]


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("config", ["catseg", "detector", "small", "small_rescaled"])
def test_schedule(facts, arrays, config, name):
    fact, cfg = facts["schedules"]["configs"][config], get_cfg()
    add_deeplab_config(cfg)
    for key, value in fact["config"].items():
        cfg.SOLVER[key] = tuple(value) if isinstance(value, list) else value
    cfg.SOLVER.LR_SCHEDULER_NAME = name
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=cfg.SOLVER.BASE_LR)
    scheduler = build_lr_scheduler(cfg, optimizer)
    assert type(scheduler).__name__ == fact["class"][name]
    assert sorted(scheduler.state_dict()) == sorted(fact["state_keys"][name])
    assert optimizer.param_groups[0]["lr"] == pytest.approx(
        fact["lr_before_first_step"][name], rel=1e-9
    )
    for iteration, expected in zip(
        arrays[f"lr/{config}/iter"], arrays[f"lr/{config}/{name}"], strict=True
    ):
        scheduler.last_epoch = int(iteration)
        if np.isnan(expected):
            with pytest.raises(IndexError):
                scheduler.get_lr()
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch wants step() before get_lr()
                assert scheduler.get_lr()[0] == pytest.approx(expected, rel=1e-9), iteration


def test_scheduler_names(facts, raised):
    cfg, optimizer = get_cfg(), torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    cfg.SOLVER.LR_SCHEDULER_NAME = "Nope"
    assert raised(build_core, cfg, optimizer) == facts["schedules"]["unknown_name"]
    cfg.SOLVER.LR_SCHEDULER_NAME = "WarmupPolyLR"
    expected = facts["schedules"]["core_builder_on_WarmupPolyLR"]
    assert raised(build_core, cfg, optimizer) == expected


def test_schedule_goes_on_after_loading():
    def make():
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
        cfg = get_cfg()
        cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS, cfg.SOLVER.WARMUP_ITERS = 20, (8, 15), 4
        return optimizer, build_core(cfg, optimizer)

    def run(optimizer, scheduler, steps):
        rates = []
        for _ in range(steps):
            optimizer.step()
            scheduler.step()
            rates.append(optimizer.param_groups[0]["lr"])
        return rates

    whole = run(*make(), 20)
    first = make()
    rates = run(*first, 9)
    second = make()
    second[0].load_state_dict(first[0].state_dict())
    second[1].load_state_dict(first[1].state_dict())
    assert rates + run(*second, 11) == whole


@pytest.mark.parametrize(
    "case",
    [
        "value_1.0_2.0",
        "norm_1.0_2.0",
        "norm_1.0_1.0",
        "norm_1.0_inf",
        "norm_0.001_2.0",
        "full_model_0.01_2.0",
    ],
)
def test_clipping(facts, case):
    facts, cfg = facts["gradient_clipping"], get_cfg()
    kind, value, norm = case.rsplit("_", 2)
    clip = cfg.SOLVER.CLIP_GRADIENTS
    clip.ENABLED, clip.CLIP_TYPE, clip.CLIP_VALUE, clip.NORM_TYPE = (
        True,
        kind,
        float(value),
        float(norm),
    )
    parameters = [nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2))]
    for parameter, name in zip(parameters, ("grad_p1", "grad_p2"), strict=True):
        parameter.grad = torch.tensor(facts[name])
    expected = facts["cases"][case]
    if isinstance(expected, str):
        with pytest.raises(ValueError):
            maybe_add_gradient_clipping(cfg, torch.optim.SGD(parameters, lr=1.0))
        return
    for make in (
        lambda: maybe_add_gradient_clipping(cfg, torch.optim.SGD(parameters, lr=1.0)),
        lambda: maybe_add_gradient_clipping(cfg, torch.optim.SGD)(parameters, lr=1.0),
    ):
        for parameter, name in zip(parameters, ("grad_p1", "grad_p2"), strict=True):
            parameter.data.zero_()
            parameter.grad = torch.tensor(facts[name])
        optimizer = make()
        assert type(optimizer).__name__ == expected["class"]
        optimizer.step()
        for parameter, name in zip(parameters, ("step_p1", "step_p2"), strict=True):
            assert (-parameter).tolist() == pytest.approx(expected[name], abs=1e-6)


def test_no_clipping():
    cfg = get_cfg()
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    assert maybe_add_gradient_clipping(cfg, optimizer) is optimizer
    assert type(optimizer) is torch.optim.SGD


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.bn = nn.BatchNorm2d(4)
        self.ln = nn.LayerNorm(4)
        self.emb = nn.Embedding(3, 4)
        self.shared = self.conv
        self.frozen = nn.Linear(2, 2).requires_grad_(False)


def named_groups(model, groups):
    names = {id(p): name for name, p in model.named_parameters()}
    return [{**g, "params": [names[id(p)] for p in g["params"]]} for g in groups]


@pytest.mark.parametrize("case", ["base_lr", "norm", "bias", "overrides", "nothing"])
def test_groups(facts, case):
    fact, model = facts["optimizer"][case], Net()
    groups = get_default_optimizer_params(model, **fact["args"])
    assert named_groups(model, groups) == fact["groups"]


def test_group_errors(facts, raised):
    facts, model = facts["optimizer"]["errors"], Net()

    def call(**kwargs):
        return raised(get_default_optimizer_params, model, **kwargs)

    assert call(bias_lr_factor=2.0) == facts["bias_factor_without_lr"]
    conflict = {"base_lr": 1.0, "bias_lr_factor": 2.0, "overrides": {"bias": {"lr": 1.0}}}
    assert call(**conflict) == facts["bias_conflict"]
    assert call(lr_factor_func=lambda name: 1.0) == facts["lr_func_without_lr"]


def test_rate_by_name():
    model = Net()
    groups = get_default_optimizer_params(
        model, base_lr=1.0, lr_factor_func=lambda name: 0.1 if name.startswith("conv") else 1.0
    )
    rates = {name: g["lr"] for g in named_groups(model, groups) for name in g["params"]}
    assert rates["conv.weight"] == rates["conv.bias"] == 0.1
    assert rates["bn.weight"] == 1.0


def test_build_optimizer(facts):
    fact, model = facts["optimizer"]["build_optimizer_default_cfg"], Net()
    optimizer = build_optimizer(get_cfg(), model)
    assert type(optimizer).__name__ == fact["class"]
    groups = [
        {key: group[key] for key in ("params", "lr", "weight_decay")}
        for group in named_groups(model, optimizer.param_groups)
    ]
    assert groups == fact["groups"]
    for key in ("foreach", "momentum", "nesterov"):
        assert optimizer.defaults[key] == fact[key]


def test_parameter_of_two_groups():
    """It occurs once, with the values of the last group; missing values stay."""
    a, b = (nn.Parameter(torch.ones(1)) for _ in range(2))
    groups = [
        {"params": [a, b], "lr": 1, "weight_decay": 3},
        {"params": [a], "lr": 2, "momentum": 4},
    ]
    reduced = reduce_param_groups(groups)
    assert [[id(p) for p in group.pop("params")] for group in reduced] == [[id(a)], [id(b)]]
    assert reduced == [{"lr": 2, "weight_decay": 3, "momentum": 4}, {"lr": 1, "weight_decay": 3}]
    torch.optim.SGD(reduce_param_groups(groups), lr=0.1)


def test_groups_with_names():
    a, b, c = (nn.Parameter(torch.ones(1)) for _ in range(3))
    groups = [
        {"params": [a, b], "param_names": ["a", "b"], "lr": 1},
        {"params": [c], "param_names": ["c"], "lr": 1},
    ]
    (group,) = reduce_param_groups(groups)
    assert group["param_names"] == ["a", "b", "c"]
    assert len(_expand_param_groups(groups)) == 3


def test_equal_decay_of_norms_stays_a_group():
    """Checkpoints of optimizers count groups."""
    cfg = get_cfg()
    cfg.SOLVER.WEIGHT_DECAY_NORM = cfg.SOLVER.WEIGHT_DECAY
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    assert len(build_optimizer(cfg, model).param_groups) == 2


def test_cosine_does_not_rise():
    cfg = get_cfg()
    cfg.SOLVER.LR_SCHEDULER_NAME, cfg.SOLVER.BASE_LR_END = "WarmupCosineLR", 1.0
    with pytest.raises(AssertionError):
        build_lr_scheduler(cfg, torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1))
