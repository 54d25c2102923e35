"""The builder of schedules, including the polynomial schedule."""

import torch

from detectron2.config import CfgNode
from detectron2.projects.deeplab.lr_scheduler import WarmupPolyLR
from detectron2.solver import build_lr_scheduler as _build_lr_scheduler
from detectron2.solver.lr_scheduler import LRScheduler


def build_lr_scheduler(cfg: CfgNode, optimizer: torch.optim.Optimizer) -> LRScheduler:
    """Build ``SOLVER.LR_SCHEDULER_NAME``: WarmupPolyLR or any name of ``detectron2.solver``."""
    solver = cfg.SOLVER
    if solver.LR_SCHEDULER_NAME != "WarmupPolyLR":
        return _build_lr_scheduler(cfg, optimizer)
    return WarmupPolyLR(
        optimizer,
        solver.MAX_ITER,
        solver.WARMUP_FACTOR,
        solver.WARMUP_ITERS,
        solver.WARMUP_METHOD,
        power=solver.POLY_LR_POWER,
        constant_ending=solver.POLY_LR_CONSTANT_ENDING,
    )
