"""How much passes at once: what a budget of memory holds, and less once memory has run out."""

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

CPU_BUDGET = 64 << 20  # bytes; larger ones are mapped afresh each time, which takes as long
GPU_SHARE = 1 / 8  # of what is free of a GPU's memory: small chunks leave most of it idle


def memory_budget(device: str | torch.device) -> int:
    """Bytes that the temporaries of a chunk may take by default."""
    device = torch.device(device)
    if device.type != "cuda":
        return CPU_BUDGET
    free, _ = torch.cuda.mem_get_info(device)
    return int(free * GPU_SHARE)


def joins_crops(device: torch.device) -> bool:
    """Whether the classes of several crops pass together: a GPU has too little to do with one's.

    A CPU is as fast with one crop at a time, and needs less memory.
    """
    return device.type == "cuda"


class Chunk:
    """How many items pass together. Any number gives the same result.

    Attributes:
        size: the number; halved, for good, whenever memory runs out.
    """

    def __init__(self, size: int, advice: str) -> None:
        """
        Args:
            size: the number to begin with, at least 1.
            advice: what a user may do where memory runs out with a single item.
        """
        self.size = max(size, 1)
        self.advice = advice

    def run(self, function: Callable[[], Result]) -> Result:
        """What ``function`` returns, which reads ``size``; in smaller chunks if memory runs out.

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
            # Only now, out of the handler, is what the attempt held free again.
            if size == 1:
                raise UserError(f"memory ran out: {self.advice} ({reason:.200})")
            self.size = min(self.size, size // 2)
            logger.warning("memory ran out with %d at a time: going on with %d", size, self.size)


def by_chunks(function: Callable[[Tensor], Tensor], volume: Tensor, chunk: int) -> Tensor:
    """``function``, which treats every class alone, of (B, T, ...), ``chunk`` classes at a time.

    Each part is put in its place at once, so that parts and whole are never there together.
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
    """``function(*inputs)``; where gradients flow, what it held is computed again for them.

    The backward pass goes no further than the last thing that it needs: a function that ends with a
    linear layer or a convolution does not compute that again.
    """
    if not torch.is_grad_enabled():
        return function(*inputs)
    return checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False)


def return_freed_memory() -> None:
    """Give what is free back to the system where the C library keeps it (glibc); else do nothing.

    Small objects that live on between large tensors that do not, such as the graph of checkpointed
    layers, keep the free memory around them from being used again: gigabytes in a training step.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    return getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error of PyTorch says that memory ran out, of a GPU or of the machine."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(
        words in str(error) for words in ("can't allocate memory", "bad_alloc")
    )
