"""Measure time and memory of a function in a separate process, and the speed of the machine."""

import ctypes
import multiprocessing
import os
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import astuple
from pathlib import Path
from typing import Any, TypeVar

import torch

from segcore.errors import UserError

Result = TypeVar("Result")

PRODUCT = 2048  # side of the matrices whose product measures the machine's speed


def alone(function: Callable[..., Result], *arguments: Any) -> Result | None:
    """Return the result of a function in a new process; None if the memory is too small for it.

    A new process, because a process keeps its peak. Its memory is limited to what is free now; if
    the system kills it, the memory counts as too small, too.
    """
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            return pool.submit(_within_free_memory, function, *arguments).result()
    except (BrokenProcessPool, torch.OutOfMemoryError, MemoryError):
        return None
    except (RuntimeError, UserError) as error:
        if "memory" in str(error):
            return None
        raise


def _within_free_memory(function: Callable[..., Result], *arguments: Any) -> Result:
    page = os.sysconf("SC_PAGE_SIZE")
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * page
    free = free_memory()
    if not torch.cuda.is_available():  # drivers map far more than they use
        resource.setrlimit(resource.RLIMIT_AS, (mapped + free, resource.RLIM_INFINITY))
    return function(*arguments)


def seconds(function: Callable[[], Any]) -> float:
    """Return the seconds of a call, including its work on a GPU."""
    start = time.perf_counter()
    function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def memory_now() -> int:
    """Return the bytes that the process holds, on the GPU if there is one; reset the peak."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # what was freed is not held: the next peak has to count it again
        trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak
    return memory_peak()


def memory_peak() -> int:
    """Return the maximum of bytes that the process has held since ``memory_now``."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return _kilobytes("/proc/self/status", "VmHWM")


def free_memory() -> int:
    """Return the bytes of main memory, or of the GPU's if there is one, that are free now."""
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0]
    return _kilobytes("/proc/meminfo", "MemAvailable")


def resident_memory() -> int:
    """Return the bytes of main memory that the process holds now."""
    return _kilobytes("/proc/self/status", "VmRSS")


def _kilobytes(path: str, name: str) -> int:
    """Return the bytes in the line ``name`` of a file in /proc."""
    lines = Path(path).read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:"))


def product_rate() -> float:
    """Return multiply-adds per second of a large float32 matrix product: the machine's limit."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    a, b = torch.rand(2, PRODUCT, PRODUCT, device=device)
    a @ b
    return PRODUCT**3 / min(seconds(lambda: a @ b) for _ in range(3))


def median(runs: list[Result | None]) -> Result | None:
    """Return the median of dataclasses of numbers, field by field; None if a run has none."""
    if None in runs:
        return None
    values = zip(*map(astuple, runs), strict=True)
    return type(runs[0])(*map(statistics.median, values))


def in_turn(cases: Mapping[str, tuple], runs: int) -> tuple[dict[str, Any], float]:
    """Return the median of each case, (function, arguments), and of the machine's rate.

    The cases take turns, so that a machine that slows down slows all of them.
    """
    results: dict[str, list] = {name: [] for name in cases}
    rates = []
    for _ in range(runs):
        for name, case in cases.items():
            rates.append(product_rate())
            if None not in results[name]:
                results[name].append(alone(*case))
    return {name: median(found) for name, found in results.items()}, statistics.median(rates)
