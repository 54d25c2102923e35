"""Seconds and memory of a function in a process of its own, and how fast the machine is."""

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

PRODUCT = 2048  # side of the matrices whose product measures the machine


def alone(function: Callable[..., Result], *arguments: Any) -> Result | None:
    """The result of a function in a new process; None where the memory is too small for it.

    A new one, because a process never gives its peak back. It may take what is free now and no
    more; where the system kills it all the same, that counts as too small, too.
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
    free = _kilobytes("/proc/meminfo", "MemAvailable")
    if not torch.cuda.is_available():  # drivers map far more than they use
        resource.setrlimit(resource.RLIMIT_AS, (mapped + free, resource.RLIM_INFINITY))
    return function(*arguments)


def seconds(function: Callable[[], Any]) -> float:
    """How long a call takes, the work that it leaves to a GPU included."""
    start = time.perf_counter()
    function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def memory_now() -> int:
    """Bytes that the process holds; on a GPU where there is one. The peak starts anew from here."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak
    return memory_peak()


def memory_peak() -> int:
    """The most bytes that the process has held since ``memory_now``."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return _kilobytes("/proc/self/status", "VmHWM")


def resident_memory() -> int:
    """Bytes of the machine's memory that the process holds now."""
    return _kilobytes("/proc/self/status", "VmRSS")


def _kilobytes(path: str, name: str) -> int:
    """Bytes of the line ``name`` of one of Linux's tables."""
    lines = Path(path).read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:"))


def product_rate() -> float:
    """Multiply-adds a second of a float32 product of two large matrices: what can be reached."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    a, b = torch.rand(2, PRODUCT, PRODUCT, device=device)
    a @ b
    return PRODUCT**3 / min(seconds(lambda: a @ b) for _ in range(3))


def median(runs: list[Result | None]) -> Result | None:
    """Of dataclasses of numbers, value by value; None where a run did not fit the memory."""
    if None in runs:
        return None
    values = zip(*map(astuple, runs), strict=True)
    return type(runs[0])(*map(statistics.median, values))


def in_turn(cases: Mapping[str, tuple], runs: int) -> tuple[dict[str, Any], float]:
    """The median of each case, (function, arguments), and of the machine's rate meanwhile.

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
