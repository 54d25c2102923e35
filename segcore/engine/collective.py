"""Processes that stop together: an error that one of them meets ends all with its sentence."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch.distributed as dist
from detectron2.evaluation import DatasetEvaluator, inference_on_dataset
from detectron2.utils import comm
from torch import nn

from segcore.errors import UserError

_long_timeout_group: dist.ProcessGroup | None = None


# As gloo and NCCL have it.
CONNECTION_LOST = re.compile("connection (closed|reset) by|broken pipe|remote process exited", re.I)


class ErrorElsewhere(UserError):
    """An error that another process met, and reports."""


class ProcessLost(UserError):
    """Another process is gone, which may not have been able to report why."""


def create_long_timeout_group(minutes: float) -> None:
    """Make the group in which :func:`together` waits; every process must call it once.

    The slowest process of an evaluation may come long after the first, later than PyTorch lets
    processes wait (10 minutes on GPUs). Waiting here, in a group of its own, leaves that limit to
    the steps of the training, where it finds processes that hang.
    """
    global _long_timeout_group
    _long_timeout_group = dist.new_group(backend="gloo", timeout=timedelta(minutes=minutes))


def forget_long_timeout_group() -> None:
    """Let go of that group, before all groups are destroyed."""
    global _long_timeout_group
    _long_timeout_group = None


@contextmanager
def collective() -> Iterator[None]:
    """Leave the block when every process has, and raise in all what any of them has met.

    No process may wait for others inside the block.

    Raises:
        UserError: of this process, as one sentence also where a loader's worker process met it.
        ErrorElsewhere: the sentence of another process.
    """
    user_error = None
    try:
        yield
    except (UserError, RuntimeError) as error:
        user_error = _as_sentence(error)
    sentences = _all_gather(user_error and str(user_error))
    if user_error is not None:
        raise user_error
    if others := list(filter(None, sentences)):
        raise ErrorElsewhere(others[0])


def collective_inference(
    model: nn.Module, data_loader: Iterable, evaluator: DatasetEvaluator
) -> dict[str, Any]:
    """Detectron2's ``inference_on_dataset``, where no process waits for one that has stopped."""
    with collective():
        inference_on_dataset(model, data_loader, _Collector(evaluator))
    with collective():
        results = evaluator.evaluate() or {}
    return results


class _Collector(DatasetEvaluator):
    """Hands everything to an evaluator but the request for results, which needs all processes."""

    def __init__(self, evaluator: DatasetEvaluator) -> None:
        self.reset, self.process = evaluator.reset, evaluator.process


def _as_sentence(error: UserError | RuntimeError) -> UserError:
    """What to tell of an error that may come, traceback and all, from a loader's worker process.

    Raises:
        RuntimeError: it is nothing of the kind.
    """
    if isinstance(error, UserError):
        sentence = str(error).strip().rpartition("UserError: ")[2]
        return error if sentence == str(error) else UserError(sentence)
    if (loss := loss_of_process(error)) is None:
        raise error
    return loss


def loss_of_process(error: BaseException | None) -> UserError | None:
    """What to tell where an error means that another process is gone; None of other errors.

    PyTorch's handler of signals raises such an error wherever this process happens to be.
    """
    if not isinstance(error, RuntimeError):
        return None
    if "DataLoader worker" in str(error):
        return UserError(
            "a worker process that reads images was killed, perhaps for want of memory: lower "
            "DATALOADER.NUM_WORKERS"
        )
    if CONNECTION_LOST.search(str(error)):
        return ProcessLost(
            f"process {comm.get_rank()} has lost its connection to another, which was killed or "
            "met an error: see what that one printed"
        )
    return None


@contextmanager
def losses_as_user_errors() -> Iterator[None]:
    """Raise the :class:`UserError` of :func:`loss_of_process` in place of PyTorch's errors."""
    try:
        yield
    except RuntimeError as error:
        if (loss := loss_of_process(error)) is None:
            raise
        raise loss from error


def _all_gather(sentence: str | None) -> list[str | None]:
    try:
        return comm.all_gather(sentence, group=_long_timeout_group)
    except RuntimeError as error:
        if "timed out" not in str(error).lower():
            raise
        raise UserError(
            f"process {comm.get_rank()} has waited for another in vain: if that one was still "
            "evaluating, raise TEST.TIMEOUT_MINUTES"
        ) from error
