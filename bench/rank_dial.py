#!/usr/bin/env python3
"""Seconds and memory of CAT-Seg against the number of classes that are kept, and the vocabulary.

    make bench BENCH=rank_dial
    python bench/rank_dial.py --config-file catseg_d2/scenes_1k.yaml --size 96 \
        --words 60 1120 20000 --kept 8 32 128

Weights are random: they do not change the time. A row says how many classes a crop keeps, and
whether the cosine similarity or a ranking head selects them; "published" is cosine similarity with
the published limit of 256. The cases of a vocabulary take turns, each in a process of its own. The
text embeddings are cached before an image is timed, as they are from the second image on. "GB" is
the peak above the loaded model with these embeddings.
"""

import catrank.interrupts  # noqa: F401  before all that takes time to load

# isort: split
import argparse
import statistics
from dataclasses import dataclass

# First, because segcore silences a warning that Detectron2's parts cause as they are loaded.
from catseg_models import build

# isort: split
import torch
from measure import in_turn, memory_now, memory_peak, seconds
from vocabulary import many_class_names

from segcore.errors import UserError, exit_on_user_error
from segcore.inference.predictions import PredictionKind

PUBLISHED = 256


@dataclass(frozen=True)
class Measured:
    """Seconds of an image, and bytes."""

    image: float
    memory: float


def segment(config: str, size: tuple[int, int], words: int, kept: int, head: bool) -> Measured:
    """Segment an image with a vocabulary of ``words`` names, of which ``kept`` are kept.

    Args:
        config: of the model.
        size: (height, width) of the image.
        words: 1 ... 20,000.
        kept: number of classes.
        head: whether a ranking head selects them.
    """
    model = build(config, MODEL__RANKSEG__FLAG=head, MODEL__RANKSEG__HIDDEN_DIM=128).eval()
    model.set_vocabulary(many_class_names(words))
    model.prediction_kind = PredictionKind("labels")
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8)
    item = {"image": image, "classes_kept": kept}
    with torch.inference_mode():
        loaded = memory_now()
        model([item])
        peak = memory_peak()
        repeats = 3 if min(size) > 200 else 9
        time = statistics.median(seconds(lambda: model([item])) for _ in range(repeats))
    return Measured(time, peak - loaded)


def table(args: argparse.Namespace) -> None:
    """Print a row for each vocabulary, selector and number of kept classes."""
    print(f"{'words':>7}  {'selector':<20}{'kept':>6}{'image s':>10}{'GB':>7}  of published")
    for words in args.words:
        ways = {("published", PUBLISHED): False}
        for kept in args.kept:
            ways |= {("cosine", kept): False, ("ranking head", kept): True}
        cases = {
            way: (segment, args.config_file, args.size, words, way[1], head)
            for way, head in ways.items()
        }
        results, _ = in_turn(cases, args.runs)
        published = results["published", PUBLISHED]
        for (selector, kept), found in results.items():
            row = f"{words:>7}  {selector:<20}{min(kept, words):>6}"
            if found is None:
                print(f"{row}  does not fit the memory")
                continue
            share = f"{found.image / published.image:.2f}" if published else ""
            print(f"{row}{found.image:>10.3f}{found.memory / 1e9:>7.2f}  {share}", flush=True)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--config-file", default="catseg_d2/vitb_384.yaml")
    add("--words", type=int, nargs="+", default=[847], help="sizes of the vocabulary")
    add("--kept", type=int, nargs="+", default=[32], help="numbers of kept classes")
    add("--size", type=int, nargs="+", default=[480, 640], help="height and width of the image")
    add("--runs", type=int, default=3, help="processes per case (default: 3)")
    args = parser.parse_args(arguments)
    if args.runs < 1 or not all(1 <= number <= 20_000 for number in args.words):
        raise UserError("--runs takes 1 or more, --words numbers from 1 to 20000")
    if len(args.size) not in (1, 2) or min(*args.size, *args.kept) < 1:
        raise UserError("--size takes a side or height and width, --kept numbers from 1")
    args.size = (args.size[0], args.size[-1])
    return args


def main() -> None:
    args = parse_arguments()
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    height, width = args.size
    threads = torch.get_num_threads()
    print(f"{args.config_file}, image {width} x {height}, {where}, {threads} threads")
    table(args)


if __name__ == "__main__":
    with exit_on_user_error():
        main()
