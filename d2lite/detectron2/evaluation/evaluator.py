"""What an evaluator is, and the loop over a data set that feeds it."""

import datetime
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from detectron2.utils.comm import get_world_size, is_main_process

_SECONDS_BETWEEN_LINES = 5


class DatasetEvaluator:
    """Collects a model's outputs over a data set and turns them into numbers."""

    def reset(self) -> None:
        """Begin anew."""

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Take one batch: what the model got and what it gave, in the same order."""

    def evaluate(self) -> dict[str, dict[str, float]] | None:
        """Return the results as {task: {metric: number}}; None on processes without any."""


class DatasetEvaluators(DatasetEvaluator):
    """Several evaluators as one."""

    def __init__(self, evaluators: Iterable[DatasetEvaluator]) -> None:
        super().__init__()
        self._evaluators = list(evaluators)

    def reset(self) -> None:
        for evaluator in self._evaluators:
            evaluator.reset()

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        for evaluator in self._evaluators:
            evaluator.process(inputs, outputs)

    def evaluate(self) -> dict[str, Any]:
        """Join the results of all; each task must come from one evaluator."""
        results: dict[str, Any] = {}
        for evaluator in self._evaluators:
            part = evaluator.evaluate()
            if part is None or not is_main_process():
                continue
            for task, numbers in part.items():
                if task in results:
                    raise AssertionError(f"two evaluators report the task {task}")
                results[task] = numbers
        return results


@contextmanager
def inference_context(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode for a while."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


class _Stopwatch:
    """Seconds spent per stage and in all, counted from the end of a warm-up."""

    def __init__(self, total: int) -> None:
        self._total, self._warmup = total, min(5, total - 1)
        self._log = logging.getLogger("detectron2.evaluation.evaluator").info
        self._last_line = 0.0
        self._restart()

    def _restart(self) -> None:
        self._start = time.perf_counter()
        self._stages = {"data": 0.0, "model": 0.0, "evaluator": 0.0}

    def begin(self, index: int) -> None:
        """Forget what was counted so far, once the warm-up is over."""
        if index == self._warmup:
            self._restart()

    def add(self, stage: str, since: float) -> float:
        """Count the time since a moment to a stage; returns the present moment."""
        now = time.perf_counter()
        self._stages[stage] += now - since
        return now

    def report(self, index: int) -> None:
        """Log a line now and then."""
        now = time.perf_counter()
        if index < 2 * self._warmup or now - self._last_line < _SECONDS_BETWEEN_LINES:
            return
        self._last_line = now
        counted = index + 1 - self._warmup * (index >= self._warmup)
        data, model, evaluator = (seconds / counted for seconds in self._stages.values())
        each = (now - self._start) / counted
        left = datetime.timedelta(seconds=int(each * (self._total - index - 1)))
        self._log(
            f"Inference done {index + 1}/{self._total}. Dataloading: {data:.4f} s/iter. "
            f"Inference: {model:.4f} s/iter. Eval: {evaluator:.4f} s/iter. "
            f"Total: {each:.4f} s/iter. ETA={left}"
        )

    def finish(self) -> None:
        """Log the totals."""
        counted = max(self._total - self._warmup, 1)
        processes = f"on {get_world_size()} devices"
        for what, seconds in (
            ("inference time", time.perf_counter() - self._start),
            ("inference pure compute time", self._stages["model"]),
        ):
            self._log(
                f"Total {what}: {datetime.timedelta(seconds=int(seconds))} "
                f"({seconds / counted:.6f} s / iter per device, {processes})"
            )


def inference_on_dataset(
    model: Callable[[list[dict]], list[dict]],
    data_loader: Iterable[list[dict]],
    evaluator: DatasetEvaluator | list[DatasetEvaluator] | None,
    callbacks: dict[str, Callable[[], Any]] | None = None,
) -> dict[str, Any]:
    """Run a model over a loader in evaluation mode, without gradients, and evaluate.

    Args:
        model: takes a batch; its mode is restored afterwards.
        data_loader: batches; must have a length.
        evaluator: one, several, or None to run the model alone.
        callbacks: functions called at "on_start", "before_inference", "after_inference", "on_end".

    Returns:
        What the evaluator returns, ``{}`` in place of None.
    """
    if not isinstance(evaluator, DatasetEvaluator):
        evaluator = DatasetEvaluators(evaluator or [])
    callbacks = callbacks or {}

    def call(moment: str) -> None:
        callbacks.get(moment, lambda: None)()

    total = len(data_loader)
    logging.getLogger(__name__).info("Start inference on %d batches", total)
    evaluator.reset()
    watch = _Stopwatch(total)
    with ExitStack() as stack:
        if isinstance(model, nn.Module):
            stack.enter_context(inference_context(model))
        stack.enter_context(torch.no_grad())
        call("on_start")
        moment = time.perf_counter()
        for index, inputs in enumerate(data_loader):
            watch.begin(index)
            moment = watch.add("data", moment)
            call("before_inference")
            outputs = model(inputs)
            call("after_inference")
            if torch.cuda.is_available():
                torch.cuda.synchronize()  # else the time would be counted to the next stage
            moment = watch.add("model", moment)
            evaluator.process(inputs, outputs)
            moment = watch.add("evaluator", moment)
            watch.report(index)
        call("on_end")
    watch.finish()
    return evaluator.evaluate() or {}
