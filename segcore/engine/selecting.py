"""Evaluate during training, keep the best weights, and stop when they no longer improve."""

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.engine import HookBase, hooks
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm
from torch import nn

from segcore.errors import UserError

from .averaging import WeightAverage

logger = logging.getLogger(__name__)

BEST = "model_best"  # the file of the best weights
AVERAGE = "average"  # prefix of the scores of the averaged weights


class StoppedEarly(BaseException):
    """Ends a training loop; no error, and so no :class:`Exception`."""


class Evaluations(HookBase):
    """Evaluates the model, and its :class:`WeightAverage` beside it, every ``period`` iterations.

    With a metric the better of both is saved as ``model_best.pth`` whenever it is the best so far.

    Attributes:
        scores: the metric at every evaluation: of the model, and of the average; the latter stay
            empty without one.
        results: of the last evaluation of the model.
    """

    def __init__(
        self,
        evaluate: Callable[[str], dict[str, Any] | None],
        save: Callable[[str], None],
        period: int,
        *,
        average: WeightAverage | None = None,
        metric: str = "",
        patience: int = 0,
    ) -> None:
        """
        Args:
            evaluate: subfolder for the files -> results; those of the main process count.
            save: name of a file -> None; saves the weights that the model has.
            period: iterations; 0 evaluates after the last one alone.
            average: of the weights; None: none.
            metric: of the results, such as "multilabel/mAP"; "": none.
            patience: see :func:`stops`; 0 never stops.
        """
        self.evaluate, self.save, self.period = evaluate, save, period
        self.average, self.metric, self.patience = average, metric, patience
        self.scores: tuple[list[float], list[float]] = ([], [])
        self.results: dict[str, Any] | None = None

    @property
    def finished(self) -> bool:
        """Whether the training should stop."""
        return bool(self.patience) and stops(*self.scores, self.patience)

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done == self.trainer.max_iter or (self.period > 0 and done % self.period == 0):
            self._evaluate()

    def state_dict(self) -> dict[str, Any]:
        plain, average = self.scores
        return {"scores": list(plain), "average_scores": list(average)} if plain else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.scores = (list(state["scores"]), list(state["average_scores"]))

    def _evaluate(self) -> None:
        best = max([*self.scores[0], *self.scores[1]], default=-math.inf)
        self.results = self.evaluate("")
        plain = self._log(self.results, "")
        averaged = -math.inf
        if self.average is not None:
            with self.average.applied():
                averaged = self._log(self.evaluate(AVERAGE), f"{AVERAGE}/")
                if self.metric and averaged > max(best, plain):
                    self.save(BEST)
        if not self.metric:
            return
        if plain > best and plain >= averaged:
            self.save(BEST)
        self.scores[0].append(plain)
        if self.average is not None:
            self.scores[1].append(averaged)

    def _log(self, results: dict[str, Any] | None, prefix: str) -> float:
        """Log the results of the main process; return the metric in every process."""
        numbers = flatten_results_dict(results or {})
        names = {f"{prefix}{name}": float(value) for name, value in numbers.items()}
        self.trainer.storage.put_scalars(**names, smoothing_hint=False)
        numbers = comm.all_gather(numbers)[0]
        if self.metric and self.metric not in numbers:
            raise UserError(
                f"SOLVER.BEST_METRIC is {self.metric!r}, but an evaluation returns "
                f"{', '.join(name for name in numbers if '-' not in name)}"
            )
        value = float(numbers.get(self.metric, math.nan))
        return value if math.isfinite(value) else -math.inf


class EarlyStop(HookBase):
    """Ends the training when :class:`Evaluations` has finished; it has to be the last hook."""

    def __init__(self, evaluations: Evaluations) -> None:
        self.evaluations = evaluations

    def before_train(self) -> None:
        self.after_step()  # a resumed run may have stopped before

    def after_step(self) -> None:
        if self.evaluations.finished:
            self.trainer.stopped_early = True
            raise StoppedEarly


def stops(plain: Sequence[float], average: Sequence[float], patience: int) -> bool:
    """Whether a training should stop: Query2Label's rule.

    More than ``patience`` evaluations have passed since the model's best score and since the best
    of both, and the average's last score is below its best.

    Args:
        plain, average: scores of all evaluations; ``average`` is empty without an average.
        patience: number of evaluations.
    """
    if not plain:
        return False
    both = [max(pair) for pair in zip(plain, average, strict=True)] if average else list(plain)
    latest = max(list(scores).index(max(scores)) for scores in (plain, both))
    falls = not average or average[-1] < max(average)
    return falls and len(plain) - 1 - latest > patience


def select_weights(
    cfg: CfgNode,
    model: nn.Module,
    known: Sequence[HookBase | None],
    evaluate: Callable[[str], dict[str, Any] | None],
    save: Callable[[str], None],
) -> list[HookBase | None]:
    """Return the hooks of a trainer with those that ``SOLVER`` asks for in this module.

    Evaluation comes before the checkpoints, which so contain its scores.

    Args:
        cfg: with ``SOLVER.EMA_DECAY``, ``BEST_METRIC`` and ``EARLY_STOP``.
        model: without the wrapper of distributed training.
        known: Detectron2's hooks.
        evaluate, save: see :class:`Evaluations`.

    Raises:
        UserError: a key is out of range, or contradicts another.
    """
    solver = cfg.SOLVER
    if not 0 <= solver.EMA_DECAY < 1:
        raise UserError(f"SOLVER.EMA_DECAY is {solver.EMA_DECAY}; it has to be from 0 to below 1")
    if solver.EARLY_STOP and not (solver.BEST_METRIC and cfg.TEST.EVAL_PERIOD):
        raise UserError(
            "SOLVER.EARLY_STOP needs scores: set SOLVER.BEST_METRIC, such as multilabel/mAP, and "
            "TEST.EVAL_PERIOD, or EARLY_STOP to 0"
        )
    if not solver.EMA_DECAY and not solver.BEST_METRIC:
        return list(known)
    average = WeightAverage(model, solver.EMA_DECAY) if solver.EMA_DECAY else None
    evaluations = Evaluations(
        evaluate,
        save,
        cfg.TEST.EVAL_PERIOD,
        average=average,
        metric=solver.BEST_METRIC,
        patience=solver.EARLY_STOP,
    )
    others = [hook for hook in known if not isinstance(hook, hooks.EvalHook)]
    checkpoints = (i for i, h in enumerate(others) if isinstance(h, hooks.PeriodicCheckpointer))
    others.insert(next(checkpoints, len(others)), evaluations)
    return [average, *others, EarlyStop(evaluations)]
