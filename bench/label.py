#!/usr/bin/env python3
"""Throughput and memory of catrank label over many small synthetic images.

    make bench BENCH=label
    python bench/label.py --images 100000 --workers 1 2

The images are noise of four seeds, stored as PNG and linked under ``--images`` names. The first row
is the model's own rate on decoded images, with the same batches and one thread. Each run prints
its rate, that rate beside the model's own, and the memory of this process and of the processes
below it at ten moments: it has to be flat.
"""

import catrank.interrupts  # noqa: F401  before all that takes time to load

# isort: split
import argparse
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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


def own_rate(loading: dict, drawn: list[np.ndarray], batch_size: int, seconds: float) -> float:
    """Return images a second of the model on decoded images, with one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model = load(**loading)
        batch = [drawn[index % SEEDS] for index in range(batch_size)]
        [*model.segment(batch, batch_size=batch_size)]
        count, began = 0, time.perf_counter()
        while not count or time.perf_counter() - began < seconds:
            count += len([*model.segment(batch, batch_size=batch_size)])
        return count / (time.perf_counter() - began)
    finally:
        torch.set_num_threads(threads)


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


def measure(args: argparse.Namespace) -> None:
    """Print a line for the model alone, and lines for each engine and number of workers."""
    loading = {"model": args.model, "device": "cpu"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        drawn = draw(folder, args.images, args.size)
        rate = own_rate(loading, drawn, args.batch_size, args.seconds)
        print(f"{'model alone, 1 worker':<24}{rate:9.1f} images/s", flush=True)
        for engine in args.engines:
            for workers in args.workers:
                with memory_watched() as memory:
                    began = time.perf_counter()
                    label(
                        [str(folder / "images")],
                        folder / f"{engine}-{workers}",
                        loading=loading,
                        engine=engine,
                        workers=workers,
                        batch_size=args.batch_size,
                    )
                    took = time.perf_counter() - began
                found = args.images / took
                print(
                    f"{f'{engine}, {workers} workers':<24}{found:9.1f} images/s, "
                    f"{found / rate:.2f} of the model alone, start and end included"
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
