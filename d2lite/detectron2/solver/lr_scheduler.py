"""Learning-rate schedules with a warm-up."""

from typing import Any

from fvcore.common.param_scheduler import (
    CompositeParamScheduler,
    ConstantParamScheduler,
    LinearParamScheduler,
    ParamScheduler,
)
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class WarmupParamScheduler(CompositeParamScheduler):
    """A schedule over 0..1 that starts with a warm-up.

    The warm-up goes in a line (or stays, "constant") from ``warmup_factor`` times the schedule's
    first value to the value that the schedule has where the warm-up ends.

    Args:
        scheduler: the schedule.
        warmup_factor: where to start.
        warmup_length: fraction of the whole.
        warmup_method: "linear" or "constant".
        rescale_interval: scale the schedule to the rest, instead of cutting its beginning.
    """

    def __init__(
        self,
        scheduler: ParamScheduler,
        warmup_factor: float,
        warmup_length: float,  # in 0..1
        warmup_method: str = "linear",
        rescale_interval: bool = False,
    ) -> None:
        first = warmup_factor * scheduler(0.0)
        if warmup_method == "constant":
            warmup: ParamScheduler = ConstantParamScheduler(first)
        elif warmup_method == "linear":
            last = scheduler(0.0 if rescale_interval else warmup_length)
            warmup = LinearParamScheduler(first, last)
        else:
            raise ValueError(
                f"SOLVER.WARMUP_METHOD is 'linear' or 'constant', not {warmup_method!r}"
            )
        super().__init__(
            [warmup, scheduler],
            interval_scaling=["rescaled", "rescaled" if rescale_interval else "fixed"],
            lengths=[warmup_length, 1 - warmup_length],
        )


class LRMultiplier(LRScheduler):
    """Every group's initial learning rate times a schedule over the fraction of iterations done."""

    def __init__(
        self,
        optimizer: Optimizer,
        multiplier: ParamScheduler,
        max_iter: int,
        last_iter: int = -1,
    ) -> None:
        if not isinstance(multiplier, ParamScheduler):
            raise ValueError(f"the multiplier must be a fvcore ParamScheduler, not {multiplier!r}")
        self._multiplier, self._max_iter = multiplier, max_iter
        super().__init__(optimizer, last_epoch=last_iter)

    def state_dict(self) -> dict[str, Any]:
        """Return what the config does not determine."""
        return {"base_lrs": self.base_lrs, "last_epoch": self.last_epoch}

    def get_lr(self) -> list[float]:
        factor = self._multiplier(self.last_epoch / self._max_iter)
        return [base * factor for base in self.base_lrs]


def _get_warmup_factor_at_iter(
    method: str, iter: int, warmup_iters: int, warmup_factor: float
) -> float:
    """Return the warm-up factor at an iteration, 1 after its end; published schedules import this.

    Args:
        method: "constant" or "linear".
        iter: the iteration.
        warmup_iters: length of the warm-up.
        warmup_factor: where it starts.
    """
    if iter >= warmup_iters:
        return 1.0
    if method == "constant":
        return warmup_factor
    if method == "linear":
        done = iter / warmup_iters
        return warmup_factor * (1 - done) + done
    raise ValueError(f"the warm-up is 'linear' or 'constant', not {method!r}")
