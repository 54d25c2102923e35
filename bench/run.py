"""Seconds a picture and peak memory of CAT-Seg on this machine: `make bench`.

Weights are random and so is the picture: neither changes the arithmetic. Each line is measured in a
process of its own, on its second picture. "at once" is the plain formulation, every class through
each layer together; "chunked" is how the model runs, and gives the same scores.

    python bench/run.py --vocabularies voc20 ade20k_150 --windows
"""

import argparse
import multiprocessing
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, TypeVar

# First, because segcore silences a warning that Detectron2's parts cause as they are loaded.
import catseg_d2  # noqa: F401  (adds its model and its config keys)

# isort: split
import torch
from detectron2.modeling import build_model

from segcore.config import load_config
from segcore.errors import exit_on_user_error
from segcore.vocabulary import Vocabulary

HEIGHT, WIDTH = 480, 640
Result = TypeVar("Result")


@dataclass(frozen=True)
class Case:
    """One line of the table."""

    config: str
    vocabulary: str
    windows: bool
    chunk: int  # classes that pass through a layer together; 0 = all


@dataclass(frozen=True)
class Measured:
    """Seconds to embed the words and to segment a picture; peak memory in GB."""

    text: float
    picture: float
    memory: float


def measure(case: Case) -> Measured:
    """Builds the model, embeds the words once, segments two pictures and times the second."""
    classes = len(Vocabulary.load(case.vocabulary))
    keys = {
        "MODEL.CLIP_WEIGHTS": "",
        "MODEL.SEM_SEG_HEAD.TEST_CLASS_JSON": case.vocabulary,
        "MODEL.SEM_SEG_HEAD.POOLING_SIZES": [1, 1],
        "MODEL.SEM_SEG_HEAD.CLASS_CHUNK": case.chunk or classes,
        "TEST.SLIDING_WINDOW": case.windows,
    }
    cfg = load_config(case.config, [item for pair in keys.items() for item in pair])
    model = build_model(cfg).eval()
    text = _seconds(lambda: model.set_vocabulary(case.vocabulary))
    picture = {"image": torch.rand(3, HEIGHT, WIDTH) * 255, "height": HEIGHT, "width": WIDTH}
    model([picture])
    return Measured(text, _seconds(lambda: model([picture])), _peak_gigabytes())


def alone(function: Callable[..., Result], *arguments: Any) -> Result | None:
    """The result of a function in a new process; None where the memory is too small for it.

    A new one, because a process never gives its peak back. Where the machine's memory ends the
    system kills it.
    """
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            return pool.submit(function, *arguments).result()
    except (BrokenProcessPool, torch.OutOfMemoryError):
        return None


def _seconds(call) -> float:
    start = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _peak_gigabytes() -> float:
    """Of the GPU where there is one, of the process otherwise."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", default="catseg_d2/vitb_384.yaml")
    parser.add_argument("--vocabularies", nargs="+", default=["voc20", "ade20k_150"])
    parser.add_argument("--windows", action="store_true", help="patch inference, five crops")
    args = parser.parse_args()

    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    mode = "patch inference" if args.windows else "whole picture"
    threads = torch.get_num_threads()
    print(f"{args.config_file}, {mode}, {WIDTH} x {HEIGHT}, {where}, {threads} threads")
    print(f"{'vocabulary':<16}{'classes':>8}  {'':<8}{'text s':>8}{'picture s':>11}{'peak GB':>9}")
    for vocabulary in args.vocabularies:
        classes = len(Vocabulary.load(vocabulary))
        for name, chunk in (("at once", 0), ("chunked", 16)):
            case = Case(args.config_file, vocabulary, args.windows, chunk)
            done = alone(measure, case)
            numbers = (
                "  out of memory"
                if done is None
                else f"{done.text:>8.2f}{done.picture:>11.2f}{done.memory:>9.2f}"
            )
            print(f"{vocabulary:<16}{classes:>8}  {name:<8}{numbers}", flush=True)


if __name__ == "__main__":
    with exit_on_user_error():
        main()
