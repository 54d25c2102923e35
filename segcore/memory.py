"""Chunk sizes from a memory budget, reduced after an out-of-memory error."""

import ctypes
import functools
import logging
import os
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from segcore.errors import UserError

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

CPU_BUDGET = 64 << 20  # bytes; larger blocks are mapped again each time, which is slow
GPU_FRACTION = 1 / 8  # of the free memory of a GPU: small chunks leave most of it idle


def memory_budget(device: str | torch.device) -> int:
    """Return the bytes that the temporaries of a chunk may take by default."""
    device = torch.device(device)
    if device.type != "cuda":
        return CPU_BUDGET
    free, _ = torch.cuda.mem_get_info(device)
    return int(free * GPU_FRACTION)


def batches_crops(device: torch.device) -> bool:
    """Whether several crops pass together: one crop does not occupy a GPU.

    A CPU is as fast with one crop at a time, and needs less memory.
    """
    return device.type == "cuda"


class Chunk:
    """Number of items that pass together; the result does not depend on it.

    Attributes:
        size: the number; permanently halved when memory runs out.
    """

    def __init__(self, size: int, advice: str) -> None:
        """
        Args:
            size: initial number, raised to 1.
            advice: what a user can do when memory runs out with a single item.
        """
        self.size = max(size, 1)
        self.advice = advice

    def run(self, function: Callable[[], Result]) -> Result:
        """Return what ``function`` returns, which reads ``size``; retry with a smaller size.

        Raises:
            UserError: memory ran out with a single item.
        """
        while True:
            size = self.size
            try:
                return function()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                reason = " ".join(str(error).split())
            # Outside of the handler, where the memory of the attempt is free again.
            if size == 1:
                raise UserError(f"memory ran out: {self.advice} ({reason:.200})")
            self.size = min(self.size, size // 2)
            logger.warning("memory ran out with %d at a time: going on with %d", size, self.size)


def by_chunks(function: Callable[[Tensor], Tensor], volume: Tensor, chunk: int) -> Tensor:
    """Apply a per-class function to a volume (B, T, ...), ``chunk`` classes at a time.

    Each chunk is written to the result at once, so that memory does not double.
    """
    classes = volume.shape[1]
    if classes <= chunk:
        return function(volume)
    result = None
    for start in range(0, classes, chunk):
        part = function(volume[:, start : start + chunk])
        if result is None:
            result = part.new_empty(part.shape[0], classes, *part.shape[2:])
        result[:, start : start + chunk] = part
    return result


def recomputed(function: Callable[..., Result], *inputs: Any) -> Result:
    """Return ``function(*inputs)``; recompute its activations in the backward pass.

    The recomputation stops after the last activation that is needed: a final linear layer or
    convolution of the function is not computed again.
    """
    if not torch.is_grad_enabled():
        return function(*inputs)
    return checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False)


def return_freed_memory() -> None:
    """Return free memory to the system where the C library is glibc; else do nothing.

    Small objects that outlive the large tensors around them, such as the graph of checkpointed
    layers, fragment the memory: gigabytes in a training step.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error of PyTorch is out-of-memory, of a GPU or of the machine."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        text in str(error) for text in ("can't allocate memory", "bad_alloc")
    )
