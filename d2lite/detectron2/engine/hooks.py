"""Hooks: timing, schedule, checkpoints, evaluation, writing."""

import datetime
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from fvcore.common.checkpoint import PeriodicCheckpointer as _PeriodicCheckpointer
from fvcore.common.param_scheduler import ParamScheduler

from detectron2.engine.model_hooks import BestCheckpointer as BestCheckpointer
from detectron2.engine.model_hooks import is_due
from detectron2.engine.train_loop import HookBase
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.solver import LRMultiplier
from detectron2.solver import LRScheduler as _LRScheduler
from detectron2.utils import comm
from detectron2.utils.events import EventWriter


class CallbackHook(HookBase):
    """A hook that calls functions; each takes the trainer."""

    def __init__(
        self,
        *,
        before_train: Callable | None = None,
        after_train: Callable | None = None,
        before_step: Callable | None = None,
        after_step: Callable | None = None,
    ) -> None:
        self._functions = {
            "before_train": before_train,
            "after_train": after_train,
            "before_step": before_step,
            "after_step": after_step,
        }

    def _call(self, moment: str) -> None:
        if function := self._functions[moment]:
            function(self.trainer)

    def before_train(self) -> None:
        self._call("before_train")

    def after_train(self) -> None:
        self._call("after_train")
        self._functions.clear()  # they may hold the trainer, which should be free to go now

    def before_step(self) -> None:
        self._call("before_step")

    def after_step(self) -> None:
        self._call("after_step")


class IterationTimer(HookBase):
    """Stores the time of every iteration after the first few as "time"."""

    def __init__(self, warmup_iter: int = 3) -> None:
        self._warmup_iter = warmup_iter
        self._total_start = self._step_start = time.perf_counter()
        self._step_seconds = 0.0  # without the hooks in between

    def before_train(self) -> None:
        self._total_start, self._step_seconds = time.perf_counter(), 0.0

    def before_step(self) -> None:
        self._step_start = time.perf_counter()

    def after_step(self) -> None:
        seconds = time.perf_counter() - self._step_start
        if self.trainer.storage.iter - self.trainer.start_iter + 1 >= self._warmup_iter:
            self.trainer.storage.put_scalars(time=seconds)
            self._step_seconds += seconds
        else:
            self._total_start = time.perf_counter()

    def after_train(self) -> None:
        """Log two lines, which scripts search in logs."""
        logger = logging.getLogger(__name__)
        total = time.perf_counter() - self._total_start
        counted = self.trainer.storage.iter + 1 - self.trainer.start_iter - self._warmup_iter
        if counted > 0 and self._step_seconds > 0:
            logger.info(
                "Overall training speed: %d iterations in %s (%.4f s / it)",
                counted,
                datetime.timedelta(seconds=int(self._step_seconds)),
                self._step_seconds / counted,
            )
        logger.info(
            "Total training time: %s (%s on hooks)",
            datetime.timedelta(seconds=int(total)),
            datetime.timedelta(seconds=int(max(total - self._step_seconds, 0))),
        )


class PeriodicWriter(HookBase):
    """Runs the writers every ``period`` iterations and after the last."""

    def __init__(self, writers: list[EventWriter], period: int = 20) -> None:
        for writer in writers:
            if not isinstance(writer, EventWriter):
                raise AssertionError(f"{writer!r} is no EventWriter")
        self._writers, self._period = writers, period

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done % self._period == 0 or done == self.trainer.max_iter:
            for writer in self._writers:
                writer.write()

    def after_train(self) -> None:
        for writer in self._writers:
            writer.write()  # what other hooks put after training
            writer.close()


class PeriodicCheckpointer(_PeriodicCheckpointer, HookBase):
    """Saves a checkpoint periodically and after the last iteration; see fvcore's class."""

    def before_train(self) -> None:
        self.max_iter = self.trainer.max_iter

    def after_step(self) -> None:
        self.step(self.trainer.iter)


class LRScheduler(HookBase):
    """Steps the schedule after every iteration and stores the learning rate.

    Args:
        optimizer: that of the trainer by default.
        scheduler: that of the trainer by default; a ParamScheduler of fvcore multiplies the initial
            learning rates of the optimizer.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer | None = None,
        scheduler: _LRScheduler | ParamScheduler | None = None,
    ) -> None:
        self._optimizer, self._scheduler = optimizer, scheduler

    def before_train(self) -> None:
        self._optimizer = self._optimizer or self.trainer.optimizer
        if isinstance(self.scheduler, ParamScheduler):
            done = self.trainer.iter - 1
            self._scheduler = LRMultiplier(
                self._optimizer, self.scheduler, self.trainer.max_iter, last_iter=done
            )
        self._shown_group = self.get_best_param_group_id(self._optimizer)

    @staticmethod
    def get_best_param_group_id(optimizer: torch.optim.Optimizer) -> int:
        """Return the index of the parameter group whose learning rate is logged: the largest.

        Where every group holds one parameter, the first with the most frequent rate.
        """
        groups = optimizer.param_groups
        sizes = [len(group["params"]) for group in groups]
        if max(sizes) > 1:
            return sizes.index(max(sizes))
        rates = [group["lr"] for group in groups]
        return rates.index(Counter(rates).most_common(1)[0][0])

    @property
    def scheduler(self) -> _LRScheduler:
        """The schedule."""
        return self._scheduler or self.trainer.scheduler

    def after_step(self) -> None:
        rate = self._optimizer.param_groups[self._shown_group]["lr"]
        self.trainer.storage.put_scalar("lr", rate, smoothing_hint=False)
        self.scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        return self.scheduler.state_dict() if isinstance(self.scheduler, _LRScheduler) else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore a saved state of the schedule."""
        if isinstance(self.scheduler, _LRScheduler):
            self.scheduler.load_state_dict(state_dict)


class EvalHook(HookBase):
    """Evaluates every ``eval_period`` iterations and after the last.

    Args:
        eval_period: 0 evaluates after the last only.
        eval_function: takes nothing, returns a nested dict of numbers or nothing.
        eval_after_train: whether to evaluate after the last iteration.
    """

    def __init__(
        self, eval_period: int, eval_function: Callable, eval_after_train: bool = True
    ) -> None:
        self._period, self._func = eval_period, eval_function
        self._eval_after_train = eval_after_train

    def _do_eval(self) -> None:
        results = self._func()
        if results:
            if not isinstance(results, Mapping):
                raise AssertionError(f"an evaluation returns a dict, not {results!r}")
            numbers = flatten_results_dict(results)
            for name, value in numbers.items():
                try:
                    float(value)
                except (TypeError, ValueError) as error:
                    raise ValueError(f"result {name} is {value!r}, no number") from error
            self.trainer.storage.put_scalars(**numbers, smoothing_hint=False)
        comm.synchronize()  # processes may take different times

    def after_step(self) -> None:
        if is_due(self._period, self.trainer) and self.trainer.iter + 1 != self.trainer.max_iter:
            self._do_eval()

    def after_train(self) -> None:
        if self._eval_after_train and self.trainer.iter + 1 >= self.trainer.max_iter:
            self._do_eval()
        del self._func  # it may hold the trainer, which should be free to go now
