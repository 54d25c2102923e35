"""Build the optimizer: learning rate and weight decay per parameter, full-model clipping."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.solver.build import maybe_add_gradient_clipping
from torch import nn

from segcore.errors import UserError
from segcore.rankseg.scores import RankScores

NORM_LAYERS = (
    nn.modules.batchnorm._NormBase,  # every batch and instance norm
    nn.GroupNorm,
    nn.LayerNorm,
    nn.LocalResponseNorm,
    RankScores,  # per-rank scale and bias, which the reference implementation keeps in a layer norm
)
# Position embeddings that are plain parameters and no nn.Embedding.
POSITION_TABLES = ("relative_position_bias_table", "absolute_pos_embed")


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """Return AdamW or SGD with one group per trainable parameter, in the order of the modules.

    The learning rate is ``SOLVER.BASE_LR``, times each of the :func:`learning_rate_factors` whose
    key occurs in the path of the module. The weight decay is ``WEIGHT_DECAY``, but
    ``WEIGHT_DECAY_NORM`` in norm layers, ``WEIGHT_DECAY_EMBED`` in embedding tables and 0 in
    ``POSITION_TABLES``.

    ``CLIP_GRADIENTS.CLIP_TYPE`` may be ``full_model`` (the norm over all gradients, clipped inside
    ``step``) besides Detectron2's ``value`` and ``norm``, which clip each parameter alone.
    """
    solver = cfg.SOLVER
    groups = list(_parameter_groups(solver, model))
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


def learning_rate_factors(solver: CfgNode) -> dict[str, float]:
    """Return {part of a module's path: factor on the learning rate of its parameters}."""
    return {
        "backbone": solver.BACKBONE_MULTIPLIER,
        "clip": solver.CLIP_MULTIPLIER,
        "ranking.head": solver.MLHEAD_MULTIPLIER,
    }


def _parameter_groups(solver: CfgNode, model: nn.Module) -> Iterator[dict[str, Any]]:
    seen, factors = set(), learning_rate_factors(solver)
    for path, module in model.named_modules():
        factor = math.prod(factors[part] for part in factors if part in path)
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or parameter in seen:
                continue
            seen.add(parameter)
            yield {
                "params": [parameter],
                "lr": solver.BASE_LR * factor,
                "weight_decay": _weight_decay(solver, module, name),
            }


def _weight_decay(solver: CfgNode, module: nn.Module, name: str) -> float:
    if name in POSITION_TABLES:
        return 0.0
    if isinstance(module, NORM_LAYERS):
        return solver.WEIGHT_DECAY_NORM
    if isinstance(module, nn.Embedding):
        return solver.WEIGHT_DECAY_EMBED
    return solver.WEIGHT_DECAY


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
