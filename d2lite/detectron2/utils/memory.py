"""Retrying after an out-of-memory error of a GPU."""

import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def _ignore_torch_cuda_oom() -> Iterator[None]:
    """Suppress CUDA's out-of-memory error and no other."""
    try:
        yield
    except RuntimeError as error:
        if "CUDA out of memory. " not in str(error):
            raise


def _to_cpu(value: Any) -> Any:
    is_on_gpu = getattr(getattr(value, "device", None), "type", None) == "cuda"
    return value.to(device="cpu") if is_on_gpu and hasattr(value, "to") else value


def retry_if_cuda_oom(func: Callable) -> Callable:
    """Make ``func`` try again after a CUDA out-of-memory error.

    First as it is, then with CUDA's cache emptied, at last with its tensor arguments on the CPU
    (its result may then be on the CPU too).
    """

    @functools.wraps(func)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with _ignore_torch_cuda_oom():
            return func(*args, **kwargs)
        torch.cuda.empty_cache()
        with _ignore_torch_cuda_oom():
            return func(*args, **kwargs)
        logging.getLogger(__name__).info("Trying %s on the CPU: the GPU's memory is full", func)
        return func(*map(_to_cpu, args), **{name: _to_cpu(v) for name, v in kwargs.items()})

    return wrapped
