"""Learning-rate schedules: Detectron2's, and the polynomial one of per-pixel models."""

import math
from typing import Any

from detectron2.config import CfgNode
from detectron2.projects.deeplab import build_lr_scheduler as build_detectron2_schedule
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from segcore.errors import UserError

CONVENTIONS = ("multiplied", "chained")
WARMUPS = ("linear", "constant")


def build_lr_scheduler(cfg: CfgNode, optimizer: Optimizer) -> LRScheduler:
    """Return ``SOLVER.LR_SCHEDULER_NAME``: ``PolyLR``, ``CosineLR``, ``OneCycleLR``,
    ``WarmupPolyLR`` or Detectron2's names.

    Raises:
        UserError: there is no such schedule, or a key has an unknown value.
    """
    solver = cfg.SOLVER
    if solver.LR_SCHEDULER_NAME == "PolyLR":
        return PolyLR(
            optimizer,
            solver.MAX_ITER,
            power=solver.POLY_LR_POWER,
            end=solver.POLY_LR_END,
            minimum=solver.POLY_LR_MIN,
            warmup_iters=solver.WARMUP_ITERS,
            warmup_factor=solver.WARMUP_FACTOR,
            warmup_method=solver.WARMUP_METHOD,
            convention=solver.POLY_LR_CONVENTION,
        )
    if solver.LR_SCHEDULER_NAME == "CosineLR":
        return CosineLR(
            optimizer,
            solver.MAX_ITER,
            end_factor=solver.COSINE_END_FACTOR,
            warmup_iters=solver.WARMUP_ITERS,
            warmup_factor=solver.WARMUP_FACTOR,
        )
    if solver.LR_SCHEDULER_NAME == "OneCycleLR":
        return _one_cycle(optimizer, solver.MAX_ITER, solver.ONE_CYCLE_RISE)
    try:
        return build_detectron2_schedule(cfg, optimizer)
    except ValueError as error:
        raise UserError(
            f"SOLVER.LR_SCHEDULER_NAME: {error} (or PolyLR, CosineLR, OneCycleLR)"
        ) from error


def _one_cycle(optimizer: Optimizer, iterations: int, rise: float) -> OneCycleLR:
    """Return torch's schedule, in which every group rises to its learning rate.

    Raises:
        UserError: the share of iterations in which it rises is out of range.
    """
    if not 1 / iterations < rise < 1:
        raise UserError(
            f"SOLVER.ONE_CYCLE_RISE is {rise}; of {iterations} iterations (SOLVER.MAX_ITER) it has "
            "to be more than one and not all"
        )
    rates = [group["lr"] for group in optimizer.param_groups]
    return OneCycleLR(optimizer, rates, total_steps=iterations, pct_start=rise)


class CosineLR(LRScheduler):
    """Half a cosine down to a share of the learning rate, after a linear warm-up.

    With the learning rate r, the factors f of the warm-up and e of the end, iteration t of T has

        r * (f + (1 - f) * t / W)                             in the warm-up, t < W
        r * (e + (1 - e) * (1 + cos(pi * t / T)) / 2)         behind it

    so that the curve goes on at t, not at its begin (timm, without the prefix of the warm-up).
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_iters: int,
        *,
        end_factor: float = 0.0,
        warmup_iters: int = 0,
        warmup_factor: float = 1e-3,
    ) -> None:
        """
        Args:
            optimizer: its learning rates are set.
            max_iters: T.
            end_factor: e.
            warmup_iters: W; 0 is none.
            warmup_factor: f.
        """
        self.max_iters, self.end_factor = max_iters, end_factor
        self.warmup_iters, self.warmup_factor = warmup_iters, warmup_factor
        super().__init__(optimizer)

    def state_dict(self) -> dict[str, Any]:
        """Return what the config does not determine."""
        return {"base_lrs": self.base_lrs, "last_epoch": self.last_epoch}

    def get_lr(self) -> list[float]:
        done = self.last_epoch
        if done < self.warmup_iters:
            factor = self.warmup_factor + (1 - self.warmup_factor) * done / self.warmup_iters
        else:
            share = min(done / self.max_iters, 1.0)
            factor = self.end_factor + (1 - self.end_factor) * (1 + math.cos(math.pi * share)) / 2
        return [base * factor for base in self.base_lrs]


class PolyLR(LRScheduler):
    """A power of the share of iterations that are left, down to an end, with a warm-up.

    The learning rate at iteration t of T, with a warm-up of W iterations from the factor f, is

        (base - end) * (1 - t / T) ** power + end, times the warm-up f + (1 - f) * t / W

    in the convention "multiplied", which published runs used. In "chained", as newer libraries put
    two schedules one after the other, the warm-up f + (1 - f) * t / (W - 1) comes first, and the
    power of 1 - (t - W) / (T - W - 1) begins at W. A group of the optimizer with a "power" has its
    own one.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_iters: int,
        *,
        power: float = 0.9,
        end: float = 0.0,
        minimum: float = 0.0,
        warmup_iters: int = 0,
        warmup_factor: float = 1e-6,
        warmup_method: str = "linear",
        convention: str = "multiplied",
    ) -> None:
        """
        Args:
            optimizer: its learning rates are set.
            max_iters: T.
            power: of groups without their own one.
            end: the learning rate of every group where the curve ends.
            minimum: the curve, without the warm-up, does not fall below this learning rate.
            warmup_iters: W; 0 is none.
            warmup_factor: f.
            warmup_method: "linear", or "constant", the factor f.
            convention: "multiplied" or "chained".

        Raises:
            UserError: ``warmup_method`` or ``convention`` is unknown.
        """
        for key, value, known in (
            ("POLY_LR_CONVENTION", convention, CONVENTIONS),
            ("WARMUP_METHOD", warmup_method, WARMUPS),
        ):
            if value not in known:
                raise UserError(f"SOLVER.{key} is {value!r}, but takes {' or '.join(known)}")
        self.max_iters, self.power, self.end, self.minimum = max_iters, power, end, minimum
        self.warmup_iters, self.warmup_factor = warmup_iters, warmup_factor
        self.warmup_method, self.chained = warmup_method, convention == "chained"
        super().__init__(optimizer)

    def state_dict(self) -> dict[str, Any]:
        """Return what the config does not determine."""
        return {"base_lrs": self.base_lrs, "last_epoch": self.last_epoch}

    def get_lr(self) -> list[float]:
        warmup, left = self._warmup(), self._left()
        rates = []
        for base, group in zip(self.base_lrs, self.optimizer.param_groups, strict=True):
            curve = (base - self.end) * left ** group.get("power", self.power) + self.end
            rates.append(warmup * max(curve, self.minimum))
        return rates

    def _left(self) -> float:
        """Return the share of the curve that is left, 0 ... 1."""
        done, length = self.last_epoch, self.max_iters
        if self.chained:
            done, length = done - self.warmup_iters, max(1, length - self.warmup_iters - 1)
        return 1.0 - min(max(done / length, 0.0), 1.0)

    def _warmup(self) -> float:
        """Return the factor of the warm-up, 1 behind it."""
        if self.last_epoch >= self.warmup_iters:
            return 1.0
        if self.warmup_method == "constant":
            return self.warmup_factor
        length = max(1, self.warmup_iters - 1) if self.chained else self.warmup_iters
        left = 1.0 - self.last_epoch / length
        return 1.0 - left * (1.0 - self.warmup_factor)
