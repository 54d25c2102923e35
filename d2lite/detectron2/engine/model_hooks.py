"""Hooks that a config or a project asks for: the best checkpoint, precise batch norm, memory."""

import logging
import math
import operator
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from fvcore.common.checkpoint import Checkpointer
from torch import nn

from detectron2.engine.train_loop import HookBase, TrainerBase
from detectron2.utils.events import EventStorage


def is_due(period: int, trainer: TrainerBase) -> bool:
    """Whether the step just done ends a period of so many, 0 for never."""
    return period > 0 and (trainer.iter + 1) % period == 0


class BestCheckpointer(HookBase):
    """Saves a checkpoint whenever a metric is better than all before; stands behind an EvalHook.

    Args:
        eval_period: that of the EvalHook.
        checkpointer: saves.
        val_metric: name of the metric, like "sem_seg/mIoU".
        mode: "max" or "min", whichever is better.
        file_prefix: name of the file, without its suffix.
    """

    def __init__(
        self,
        eval_period: int,
        checkpointer: Checkpointer,
        val_metric: str,
        mode: str = "max",
        file_prefix: str = "model_best",
    ) -> None:
        if mode not in ("max", "min"):
            raise AssertionError(f"mode is 'max' or 'min', not {mode!r}")
        self._period, self._checkpointer = eval_period, checkpointer
        self._val_metric, self._file_prefix = val_metric, file_prefix
        self._is_better = operator.gt if mode == "max" else operator.lt
        self.best_metric: float | None = None
        self.best_iter: int | None = None

    def _best_checking(self) -> None:
        logger = logging.getLogger(__name__)
        name = self._val_metric
        if name not in self.trainer.storage.latest():
            logger.warning("%s was not evaluated: no best checkpoint is saved", name)
            return
        value, iteration = self.trainer.storage.latest()[name]
        if self.best_metric is None:
            is_best = math.isfinite(value)
        else:
            is_best = self._is_better(value, self.best_metric)
        if not is_best:
            logger.info(
                "%s is %.5f: the best stays %s of iteration %s",
                name,
                value,
                self.best_metric,
                self.best_iter,
            )
            return
        self._checkpointer.save(self._file_prefix, iteration=iteration)
        logger.info("%s is %.5f, the best so far: saved", name, value)
        if math.isfinite(value):
            self.best_metric, self.best_iter = value, iteration

    def after_step(self) -> None:
        if is_due(self._period, self.trainer) and self.trainer.iter + 1 != self.trainer.max_iter:
            self._best_checking()

    def after_train(self) -> None:
        if self.trainer.iter + 1 >= self.trainer.max_iter:
            self._best_checking()


class PreciseBN(HookBase):
    """Puts the true means of the statistics into batch norms, in place of moving ones.

    Args:
        period: every so many iterations, and after the last; 0 for the last only.
        model: its batch norms must be in training mode when the hook runs.
        data_loader: batches for the model; one iterator over it serves all runs.
        num_iter: number of batches.
    """

    def __init__(self, period: int, model: nn.Module, data_loader: Iterable, num_iter: int) -> None:
        from fvcore.nn.precise_bn import get_bn_modules

        self._period, self._model, self._num_iter = period, model, num_iter
        self._data_loader, self._data_iter = data_loader, None
        self._disabled = not get_bn_modules(model)
        if self._disabled:
            logging.getLogger(__name__).info("PreciseBN does nothing: no batch norm is training")

    def after_step(self) -> None:
        is_last = self.trainer.iter + 1 == self.trainer.max_iter
        if is_last or is_due(self._period, self.trainer):
            self.update_stats()

    def update_stats(self) -> None:
        """Do it now."""
        if self._disabled:
            return
        from fvcore.nn.precise_bn import update_bn_stats

        if self._data_iter is None:
            self._data_iter = iter(self._data_loader)
        with EventStorage():  # what the model puts is of no interest
            update_bn_stats(self._model, self._batches(), self._num_iter)

    def _batches(self) -> Iterator[Any]:
        while True:
            yield next(self._data_iter)


class TorchMemoryStats(HookBase):
    """Logs the memory of the GPU every so many iterations and after the last, a few times."""

    def __init__(self, period: int = 20, max_runs: int = 10) -> None:
        self._period, self._max_runs, self._runs = period, max_runs, 0

    def after_step(self) -> None:
        is_last = self.trainer.iter + 1 == self.trainer.max_iter
        if self._runs >= self._max_runs or not torch.cuda.is_available():
            return
        if not is_last and not is_due(self._period, self.trainer):
            return
        names = ("max_memory_reserved", "memory_reserved", "max_memory_allocated")
        amounts = {n: getattr(torch.cuda, n)() for n in (*names, "memory_allocated")}
        text = " ".join(f"{name}: {amount / 2**20:.0f}MB" for name, amount in amounts.items())
        logging.getLogger(__name__).info("iter: %d %s", self.trainer.iter, text)
        self._runs += 1
        torch.cuda.reset_peak_memory_stats()
