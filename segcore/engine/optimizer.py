"""Build the optimizer: AdamW or SGD over groups of one parameter, and full-model clipping."""

from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.solver.build import maybe_add_gradient_clipping
from torch import nn

from segcore.engine.parameters import parameter_groups
from segcore.errors import UserError


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """Return AdamW or SGD with one group per trainable parameter: see :func:`parameter_groups`.

    ``CLIP_GRADIENTS.CLIP_TYPE`` may be ``full_model`` (the norm over all gradients, clipped inside
    ``step``) besides Detectron2's ``value`` and ``norm``, which clip each parameter alone.

    Raises:
        UserError: nothing is trainable, or a key has an unknown value.
    """
    solver = cfg.SOLVER
    groups = list(parameter_groups(solver, model))
    if not groups:
        raise UserError(f"{type(model).__name__} has no trainable parameter: all are frozen")
    match solver.OPTIMIZER:
        case "ADAMW":
            optimizer = torch.optim.AdamW(groups, lr=solver.BASE_LR)
        case "SGD":
            optimizer = torch.optim.SGD(
                groups, lr=solver.BASE_LR, momentum=solver.MOMENTUM, nesterov=solver.NESTEROV
            )
        case other:
            raise UserError(f"SOLVER.OPTIMIZER is {other!r}, but takes ADAMW or SGD")
    return _add_clipping(cfg, optimizer)


def _add_clipping(cfg: CfgNode, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    clipping = cfg.SOLVER.CLIP_GRADIENTS
    if not clipping.ENABLED:
        return optimizer
    if clipping.CLIP_TYPE in ("value", "norm"):
        return maybe_add_gradient_clipping(cfg, optimizer)
    if clipping.CLIP_TYPE != "full_model":
        raise UserError(
            f"SOLVER.CLIP_GRADIENTS.CLIP_TYPE is {clipping.CLIP_TYPE!r}, "
            "but takes full_model, norm or value"
        )

    def clip_all(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(parameters, clipping.CLIP_VALUE, clipping.NORM_TYPE)

    # Before every step, and with loss scaling after the gradients are scaled back.
    optimizer.register_step_pre_hook(clip_all)
    return optimizer
