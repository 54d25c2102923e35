"""The hook that keeps the best checkpoint."""

import logging
import math
import operator
from typing import Literal

from fvcore.common.checkpoint import Checkpointer

from detectron2.engine.train_loop import HookBase, TrainerBase


def is_due(period: int, trainer: TrainerBase) -> bool:
    """Whether the last iteration completes a period; a period of 0 never ends."""
    return period > 0 and (trainer.iter + 1) % period == 0


class BestCheckpointer(HookBase):
    """Saves a checkpoint whenever a metric is better than before; register it after an EvalHook.

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
        mode: Literal["max", "min"] = "max",
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
