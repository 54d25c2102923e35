"""Builders of optimizers and learning-rate schedules."""

import logging
from collections.abc import Callable, Iterable
from enum import Enum
from functools import partial
from typing import Any

import torch
from fvcore.common.param_scheduler import (
    CosineParamScheduler,
    MultiStepParamScheduler,
    ParamScheduler,
    StepWithFixedGammaParamScheduler,
)
from torch import nn

from detectron2.config import CfgNode
from detectron2.solver.lr_scheduler import LRMultiplier, LRScheduler, WarmupParamScheduler

_NORMS = (
    nn.modules.batchnorm._NormBase,  # batch and instance normalisation, of every dimension
    nn.GroupNorm,
    nn.LayerNorm,
    nn.LocalResponseNorm,
)


class GradientClipType(Enum):
    """How a gradient is clipped, for each parameter alone."""

    VALUE = "value"
    NORM = "norm"


def _clipper(cfg: CfgNode) -> Callable[[nn.Parameter], Any]:
    """Return the function that clips the gradient of a parameter; ``cfg`` is CLIP_GRADIENTS."""
    if GradientClipType(cfg.CLIP_TYPE) is GradientClipType.VALUE:
        return partial(nn.utils.clip_grad_value_, clip_value=cfg.CLIP_VALUE)
    return partial(nn.utils.clip_grad_norm_, max_norm=cfg.CLIP_VALUE, norm_type=cfg.NORM_TYPE)


def _with_clipping(kind: type[torch.optim.Optimizer], clip: Callable) -> type:
    """Return a subclass that clips every parameter's gradient before a step."""

    def step(self: torch.optim.Optimizer, closure: Callable | None = None) -> Any:
        for group in self.param_groups:
            for parameter in group["params"]:
                clip(parameter)
        return kind.step(self, closure)

    return type(f"{kind.__name__}WithGradientClip", (kind,), {"step": step})


def maybe_add_gradient_clipping(
    cfg: CfgNode, optimizer: torch.optim.Optimizer | type[torch.optim.Optimizer]
) -> torch.optim.Optimizer | type[torch.optim.Optimizer]:
    """Make an optimizer, or an optimizer class, clip gradients if SOLVER.CLIP_GRADIENTS says so.

    Raises:
        ValueError: CLIP_TYPE is neither "value" nor "norm".
    """
    if not cfg.SOLVER.CLIP_GRADIENTS.ENABLED:
        return optimizer
    clip = _clipper(cfg.SOLVER.CLIP_GRADIENTS)
    if isinstance(optimizer, type):
        return _with_clipping(optimizer, clip)
    optimizer.__class__ = _with_clipping(type(optimizer), clip)
    return optimizer


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """Build SGD with momentum, with parameters grouped by learning rate and weight decay."""
    solver = cfg.SOLVER
    groups = get_default_optimizer_params(
        model,
        base_lr=solver.BASE_LR,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        bias_lr_factor=solver.BIAS_LR_FACTOR,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
    )
    options = {"momentum": solver.MOMENTUM, "nesterov": solver.NESTEROV, "foreach": True}
    optimizer = torch.optim.SGD(groups, solver.BASE_LR, weight_decay=solver.WEIGHT_DECAY, **options)
    return maybe_add_gradient_clipping(cfg, optimizer)


def get_default_optimizer_params(
    model: nn.Module,
    base_lr: float | None = None,
    weight_decay: float | None = None,
    weight_decay_norm: float | None = None,
    bias_lr_factor: float | None = 1.0,
    weight_decay_bias: float | None = None,
    lr_factor_func: Callable[[str], float] | None = None,
    overrides: dict[str, dict[str, float]] | None = None,
) -> list[dict[str, Any]]:
    """Group a model's trainable parameters by their hyper-parameters.

    Args:
        model: the model.
        base_lr: learning rate.
        weight_decay: for all parameters but those with another value below.
        weight_decay_norm: of normalisation layers.
        bias_lr_factor: factor of the learning rate of parameters named "bias".
        weight_decay_bias: of parameters named "bias".
        lr_factor_func: full name of a parameter -> factor of its learning rate.
        overrides: last part of a parameter's name -> hyper-parameters to replace.

    Raises:
        ValueError: a factor without a ``base_lr``, or "bias" overridden twice.
    """
    defaults = {"lr": base_lr, "weight_decay": weight_decay}
    defaults = {name: value for name, value in defaults.items() if value is not None}
    by_name = _with_bias(overrides or {}, base_lr, bias_lr_factor, weight_decay_bias)
    if lr_factor_func is not None and base_lr is None:
        raise ValueError("lr_factor_func needs base_lr")

    groups, seen = [], set()
    for module_name, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or parameter in seen:
                continue
            seen.add(parameter)
            values = dict(defaults)
            if isinstance(module, _NORMS) and weight_decay_norm is not None:
                values["weight_decay"] = weight_decay_norm
            if lr_factor_func is not None:
                values["lr"] = base_lr * lr_factor_func(f"{module_name}.{name}")
            groups.append({"params": [parameter], **values, **by_name.get(name, {})})
    return reduce_param_groups(groups)


def _with_bias(
    overrides: dict[str, dict[str, float]],
    base_lr: float | None,
    factor: float | None,
    weight_decay: float | None,
) -> dict[str, dict[str, float]]:
    """Add the two arguments for biases to the overrides."""
    bias: dict[str, float] = {}
    if factor is not None and factor != 1.0:
        if base_lr is None:
            raise ValueError("bias_lr_factor needs base_lr")
        bias["lr"] = base_lr * factor
    if weight_decay is not None:
        bias["weight_decay"] = weight_decay
    if bias and "bias" in overrides:
        raise ValueError("overrides name 'bias', and so do bias_lr_factor or weight_decay_bias")
    return {**overrides, "bias": bias} if bias else overrides


_LISTS = ("params", "param_names")  # what groups list by parameter; all else holds for all of them


def _expand_param_groups(params: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Make one group for every parameter; later groups overrule earlier ones."""
    by_parameter: dict[nn.Parameter, dict[str, Any]] = {}
    for group in params:
        values = {name: value for name, value in group.items() if name not in _LISTS}
        lists = {name: group[name] for name in _LISTS if name in group}
        for index, parameter in enumerate(group["params"]):
            own = {name: [items[index]] for name, items in lists.items()}
            by_parameter.setdefault(parameter, {}).update(own | values)
    return list(by_parameter.values())


def reduce_param_groups(params: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Merge groups with equal hyper-parameters, in the order of their first appearance.

    A parameter of several groups stands in the result once, with the values of the last of them.
    """
    merged: dict[tuple, dict[str, Any]] = {}
    for group in _expand_param_groups(params):
        values = {name: value for name, value in group.items() if name not in _LISTS}
        target = merged.setdefault(tuple(values.items()), values)
        for name in _LISTS:
            if name in group:
                target.setdefault(name, []).extend(group[name])
    return list(merged.values())


def build_lr_scheduler(cfg: CfgNode, optimizer: torch.optim.Optimizer) -> LRScheduler:
    """Build ``SOLVER.LR_SCHEDULER_NAME`` with the warm-up of ``cfg.SOLVER``."""
    solver = cfg.SOLVER
    schedule = WarmupParamScheduler(
        _schedule(solver),
        solver.WARMUP_FACTOR,
        min(solver.WARMUP_ITERS / solver.MAX_ITER, 1.0),
        solver.WARMUP_METHOD,
        solver.RESCALE_INTERVAL,
    )
    return LRMultiplier(optimizer, multiplier=schedule, max_iter=solver.MAX_ITER)


def _schedule(solver: CfgNode) -> ParamScheduler:
    """Build the schedule over 0..1, without warm-up, as factors of the base learning rate."""
    name = solver.LR_SCHEDULER_NAME
    if name == "WarmupMultiStepLR":
        steps = [step for step in solver.STEPS if step <= solver.MAX_ITER]
        if len(steps) < len(solver.STEPS):
            logging.getLogger(__name__).warning(
                "Steps of SOLVER.STEPS %s after SOLVER.MAX_ITER %d are left out",
                solver.STEPS,
                solver.MAX_ITER,
            )
        return MultiStepParamScheduler(
            values=[solver.GAMMA**k for k in range(len(steps) + 1)],
            milestones=steps,
            num_updates=solver.MAX_ITER,
        )
    if name == "WarmupCosineLR":
        end = solver.BASE_LR_END / solver.BASE_LR
        if not 0 <= end <= 1:
            raise AssertionError(
                f"SOLVER.BASE_LR_END {solver.BASE_LR_END} is not between 0 and SOLVER.BASE_LR"
            )
        return CosineParamScheduler(1, end)
    if name == "WarmupStepWithFixedGammaLR":
        return StepWithFixedGammaParamScheduler(
            base_value=1.0,
            gamma=solver.GAMMA,
            num_decays=solver.NUM_DECAYS,
            num_updates=solver.MAX_ITER,
        )
    raise ValueError(
        f"SOLVER.LR_SCHEDULER_NAME {name} is unknown; known: WarmupMultiStepLR, WarmupCosineLR, "
        "WarmupStepWithFixedGammaLR"
    )
