"""Base class of evaluators, and the inference loop over a data set."""

import datetime
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, MutableSequence, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from detectron2.utils.comm import get_world_size, is_main_process

_SECONDS_BETWEEN_LINES = 5


class DatasetEvaluator:
    """Collects a model's outputs over a data set and computes metrics."""

    def reset(self) -> None:
        """Start a new evaluation."""

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Add one batch: inputs and outputs of the model, in the same order."""

    def evaluate(self) -> dict[str, dict[str, float]] | None:
        """Return the results as {task: {metric: number}}; None on processes without any."""


class DatasetEvaluators(DatasetEvaluator):
    """Several evaluators combined."""

    def __init__(self, evaluators: Sequence[DatasetEvaluator]) -> None:
        super().__init__()
        self._evaluators = evaluators

    def reset(self) -> None:
        for evaluator in self._evaluators:
            evaluator.reset()

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        for evaluator in self._evaluators:
            evaluator.process(inputs, outputs)

    def evaluate(self) -> dict[str, Any]:
        """Merge the results of all; each task must come from one evaluator."""
        results: dict[str, Any] = OrderedDict()
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
    """Put a model into evaluation mode inside the ``with`` block."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


class _Stopwatch:
    """Seconds spent per stage and in all, counted from the end of a warm-up."""

    def __init__(self, total: int) -> None:
        self._total, self._warmup = total, max(min(5, total - 1), 0)
        self._log = logging.getLogger(__name__).info
        self._last_line = 0.0
        self.begin(self._warmup)

    def begin(self, index: int) -> None:
        """Reset the counts at the end of the warm-up."""
        if index == self._warmup:
            self._start = time.perf_counter()
            self._stages = {"Dataloading": 0.0, "Inference": 0.0, "Eval": 0.0}

    def add(self, stage: str, since: float) -> float:
        """Add the time since ``start`` to a stage; returns the current time."""
        now = time.perf_counter()
        self._stages[stage] += now - since
        return now

    def report(self, index: int) -> None:
        """Log the progress, every few seconds."""
        now = time.perf_counter()
        if index < 2 * self._warmup or now - self._last_line < _SECONDS_BETWEEN_LINES:
            return
        self._last_line = now
        counted = index + 1 - self._warmup
        seconds = {**self._stages, "Total": now - self._start}
        parts = [f"{stage}: {spent / counted:.4f} s/iter." for stage, spent in seconds.items()]
        left = int(seconds["Total"] / counted * (self._total - index - 1))
        self._log(
            f"Inference done {index + 1}/{self._total}. {' '.join(parts)} "
            f"ETA={datetime.timedelta(seconds=left)}"
        )

    def finish(self) -> None:
        """Log the totals."""
        counted = max(self._total - self._warmup, 1)
        total = time.perf_counter() - self._start
        pure = self._stages["Inference"]
        for what, spent in (("inference time", total), ("inference pure compute time", pure)):
            self._log(
                f"Total {what}: {datetime.timedelta(seconds=int(spent))} "
                f"({spent / counted:.6f} s / iter per device, on {get_world_size()} devices)"
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
        evaluator: an object with the methods of :class:`DatasetEvaluator`, a list of such, or None
            to run the model alone.
        callbacks: functions called at "on_start", "before_inference", "after_inference", "on_end".

    Returns:
        The results of the evaluator, ``{}`` instead of None.
    """
    if evaluator is None or isinstance(evaluator, MutableSequence):
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
            moment = watch.add("Dataloading", moment)
            call("before_inference")
            outputs = model(inputs)
            call("after_inference")
            if torch.cuda.is_available():
                torch.cuda.synchronize()  # else the time would be counted to the next stage
            moment = watch.add("Inference", moment)
            evaluator.process(inputs, outputs)
            moment = watch.add("Eval", moment)
            watch.report(index)
        call("on_end")
    watch.finish()
    results = evaluator.evaluate()
    return {} if results is None else results
