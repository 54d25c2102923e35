"""Collective error handling: a user error in one process ends all processes with its message."""

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
from segcore.runtime.console import Step, terminal

_long_timeout_group: dist.ProcessGroup | None = None


# As gloo and NCCL have it.
CONNECTION_LOST = re.compile("connection (closed|reset) by|broken pipe|remote process exited", re.I)


class ErrorInOtherProcess(UserError):
    """A user error of another process, which prints it."""


class ProcessLost(UserError):
    """Another process is gone and may not have been able to report why."""


def create_long_timeout_group(minutes: float) -> None:
    """Create the gloo group with a long timeout in which :func:`collective` waits.

    Every process must call it once. In an evaluation the slowest process may arrive long after the
    first, later than PyTorch lets processes wait (10 minutes on GPUs). A separate group for these
    waits keeps that limit for training steps, where it finds processes that hang.
    """
    global _long_timeout_group
    _long_timeout_group = dist.new_group(backend="gloo", timeout=timedelta(minutes=minutes))


def forget_long_timeout_group() -> None:
    """Drop the reference to that group; call it before all groups are destroyed."""
    global _long_timeout_group
    _long_timeout_group = None


@contextmanager
def collective() -> Iterator[None]:
    """Leave the block when every process has left it, and raise the user error of any in all.

    No process may wait for others inside the block.

    Raises:
        UserError: of this process, as one line, also where a loader's worker process raised it.
        ErrorInOtherProcess: with the message of another process.
    """
    user_error = None
    try:
        yield
    except (UserError, RuntimeError) as error:
        user_error = _as_user_error(error)
    messages = _all_gather(user_error and str(user_error))
    if user_error is not None:
        raise user_error
    if others := list(filter(None, messages)):
        raise ErrorInOtherProcess(others[0])


def collective_inference(
    model: nn.Module,
    data_loader: Iterable,
    evaluator: DatasetEvaluator,
    title: str = "evaluating",
) -> dict[str, Any]:
    """Run Detectron2's ``inference_on_dataset`` so that no process waits for one that stopped.

    Args:
        model, data_loader, evaluator: see ``inference_on_dataset``.
        title: of the progress on the terminal.
    """
    with collective(), terminal().step(title, total=len(data_loader)) as step:
        inference_on_dataset(model, data_loader, _Collector(evaluator, step))
    with collective():
        results = evaluator.evaluate() or {}
    return results


class _Collector(DatasetEvaluator):
    """Pass everything to an evaluator but ``evaluate``, which needs all processes."""

    def __init__(self, evaluator: DatasetEvaluator, step: Step) -> None:
        self.reset, self._process, self._step = evaluator.reset, evaluator.process, step

    def process(self, inputs: Any, outputs: Any) -> None:
        self._process(inputs, outputs)
        self._step.update()


def _as_user_error(error: UserError | RuntimeError) -> UserError:
    """Return the user error without the traceback that a loader's worker process puts before it.

    Raises:
        RuntimeError: the error is no user error and no lost process.
    """
    if isinstance(error, UserError):
        message = str(error).strip().rpartition("UserError: ")[2]
        return error if message == str(error) else UserError(message)
    if (lost := lost_process_error(error)) is None:
        raise error
    return lost


def lost_process_error(error: BaseException | None) -> UserError | None:
    """Return the user error to report if ``error`` means that another process is gone, else None.

    PyTorch's handler of signals raises such an error wherever this process happens to be.
    """
    if not isinstance(error, RuntimeError):
        return None
    if "DataLoader worker" in str(error):
        return UserError(
            "a worker process that reads images was killed, perhaps for lack of memory: lower "
            "DATALOADER.NUM_WORKERS"
        )
    if CONNECTION_LOST.search(str(error)):
        return ProcessLost(
            f"process {comm.get_rank()} has lost its connection to another, which was killed or "
            "met an error: see the output of that process"
        )
    return None


@contextmanager
def lost_processes_as_user_errors() -> Iterator[None]:
    """Raise the :class:`UserError` of :func:`lost_process_error` in place of PyTorch's errors."""
    try:
        yield
    except RuntimeError as error:
        if (lost := lost_process_error(error)) is None:
            raise
        raise lost from error


def _all_gather(message: str | None) -> list[str | None]:
    try:
        return comm.all_gather(message, group=_long_timeout_group)
    except RuntimeError as error:
        if "timed out" not in str(error).lower():
            raise
        raise UserError(
            f"process {comm.get_rank()} has waited for another in vain: if that one was still "
            "evaluating, raise TEST.TIMEOUT_MINUTES"
        ) from error
