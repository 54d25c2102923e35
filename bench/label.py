#!/usr/bin/env python3
"""Throughput and memory of catrank label over many small synthetic images.

    make bench BENCH=label
    python bench/label.py --images 100000 --workers 1 2

The images are noise of four seeds, stored as PNG and linked under ``--images`` names. "model alone"
is the rate on decoded images of as many processes as there are workers, at the same time, with the
same batches and one thread each. Each run prints its rate with and without start and end, the
latter beside the models' own, and the memory of this process and of the processes below it at ten
moments: it has to be flat.
"""

import catrank.interrupts  # noqa: F401  before all that takes time to load

# isort: split
import argparse
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from catrank.labelling import label
from catrank.model import load
from segcore.errors import UserError, exit_on_user_error

SEEDS = 4
MOMENTS = 10
MEBIBYTE = 1 << 20


def draw(folder: Path, images: int, size: int) -> list[np.ndarray]:
    """Write images, links to one file a seed; return their pixels (size, size, 3)."""
    drawn = []
    (folder / "seeds").mkdir()
    for seed in range(SEEDS):
        pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "seeds" / f"{seed}.png")
        drawn.append(pixels)
    for number in range(images):
        below = folder / "images" / f"{number // 1000:04d}"
        if number % 1000 == 0:
            below.mkdir(parents=True)
        (below / f"{number:06d}.png").symlink_to(folder / "seeds" / f"{number % SEEDS}.png")
    return drawn


def own_rate(
    loading: dict, drawn: list[np.ndarray], batch_size: int, seconds: float, workers: int
) -> float:
    """Return images a second of models alone: one in each of ``workers`` processes."""
    spawn = multiprocessing.get_context("spawn")
    with spawn.Manager() as manager:
        together = manager.Barrier(workers)
        with ProcessPoolExecutor(workers, mp_context=spawn) as pool:
            alone = partial(one_rate, together, loading, drawn, batch_size)
            return sum(pool.map(alone, [seconds] * workers))


def one_rate(
    together: Any, loading: dict, drawn: list[np.ndarray], batch_size: int, seconds: float
) -> float:
    """Return images a second of a model on decoded images, with one thread."""
    torch.set_num_threads(1)
    model = load(**loading)
    batch = [drawn[index % SEEDS] for index in range(batch_size)]
    [*model.segment(batch, batch_size=batch_size)]
    together.wait()
    count, began = 0, time.perf_counter()
    while not count or time.perf_counter() - began < seconds:
        count += len([*model.segment(batch, batch_size=batch_size)])
    return count / (time.perf_counter() - began)


@contextmanager
def memory_watched() -> Iterator[list[float]]:
    """Yield a list that gets the memory of this process and those below it, in MiB, each second."""
    found: list[float] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(1):
            found.append(memory_below(os.getpid()) / MEBIBYTE)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()


def memory_below(root: int) -> int:
    """Return the private resident bytes of a process and of all processes below it."""
    parents, private = {}, {}
    page = os.sysconf("SC_PAGE_SIZE")
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            _, resident, shared, *_ = map(int, (folder / "statm").read_text().split())
        except OSError:  # it has ended
            continue
        parents[int(folder.name)] = int(parent)
        private[int(folder.name)] = (resident - shared) * page
    total = 0
    for pid, size in private.items():
        above = pid
        while above in parents and above != root:
            above = parents[above]
        total += size if above == root else 0
    return total


def rate_between(output: Path, workers: int) -> float:
    """Return images a second from the first shards, one a worker, to the last one.

    A run of one shard a worker or less has no such time: nan.
    """
    from pyarrow import parquet  # where it is absent, catrank.labelling has said so

    shards = sorted((output / "labels").glob("*.parquet"), key=lambda shard: shard.stat().st_mtime)
    first, after = shards[:workers], shards[workers:]
    if not after:
        return float("nan")
    images = sum(parquet.read_metadata(shard).num_rows for shard in after)
    return images / (after[-1].stat().st_mtime - first[-1].stat().st_mtime)


def measure(args: argparse.Namespace) -> None:
    """Print a line for the model alone, and lines for each engine and number of workers."""
    loading = {"model": args.model, "device": "cpu"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        drawn = draw(folder, args.images, args.size)
        alone = {}
        for workers in sorted({*args.workers}):
            alone[workers] = own_rate(loading, drawn, args.batch_size, args.seconds, workers)
            name = f"model alone, {workers} workers"
            print(f"{name:<24}{alone[workers]:9.1f} images/s", flush=True)
        for engine in args.engines:
            for workers in args.workers:
                output = folder / f"{engine}-{workers}"
                with memory_watched() as memory:
                    began = time.perf_counter()
                    label(
                        [str(folder / "images")],
                        output,
                        loading=loading,
                        engine=engine,
                        workers=workers,
                        batch_size=args.batch_size,
                    )
                    took = time.perf_counter() - began
                rate = rate_between(output, workers)
                print(
                    f"{f'{engine}, {workers} workers':<24}{args.images / took:9.1f} images/s, "
                    f"without start and end {rate:.1f}: {rate / alone[workers]:.2f} of the models"
                )
                moments = memory[:: max(1, len(memory) // MOMENTS)]
                print(f"{'':<24}MiB: {' '.join(f'{each:.0f}' for each in moments)}", flush=True)


def parse_arguments(words: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line.

    Raises:
        UserError: a number is out of range.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--images", type=int, default=4000, metavar="N", help="(4000)")
    add("--size", type=int, default=64, metavar="N", help="height and width in pixels (64)")
    add("--model", default="scenes-60-panoptic", metavar="M")
    add("--batch-size", type=int, default=8, metavar="N", help="(8)")
    add("--workers", type=int, nargs="+", default=[1, 2], metavar="N", help="(1 2)")
    add("--engines", nargs="+", choices=("local", "ray"), default=["local", "ray"])
    add("--seconds", type=float, default=10, metavar="S", help="of the model alone (10)")
    args = parser.parse_args(words)
    for name in ("images", "size", "batch_size"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} takes 1 or more")
    if min(args.workers) < 1:
        raise UserError("--workers takes 1 or more")
    return args


if __name__ == "__main__":
    with exit_on_user_error():
        measure(parse_arguments())
