"""Measure time and memory of evaluating label maps: `make bench BENCH=evaluators`.

    python bench/evaluators.py --images 2000 --theirs 5
    taskset -c 1 python bench/evaluators.py > docs/results/evaluation_speed.md

The maps are random regions: about 20 of the classes are in an image, and the prediction gives a
third of the regions to other classes. They are written once, as PNG, and used repeatedly. If the
real Detectron2 is installed, its SemSegEvaluator is measured beside ours. It takes scores of every
class and searches the best one; to separate the time of this search, it is also given label maps in
the form of scores. Times are CPU times, so that other processes do not count.
"""

import catrank.interrupts  # noqa: F401  before all that takes time to load

# isort: split

import argparse
import datetime
import logging
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

# First, because segcore silences a warning that Detectron2's parts cause as they are loaded.
from segcore.evaluation import SemanticEvaluator

# isort: split
import detectron2.evaluation
import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from measure import alone, resident_memory
from PIL import Image
from torch import Tensor

from segcore.datasets import check_registered
from segcore.errors import UserError, exit_on_user_error
from segcore.images import read_labels

NAME = "bench_label_maps"
IGNORE_LABEL = 65535
REGIONS, SHOWN = 60, 20
DISTINCT = 8  # maps; further images repeat them
WARM_UP = 3  # images before the clock starts
GATE = 10  # times faster than Detectron2


@dataclass(frozen=True)
class Maps:
    """The label maps to evaluate.

    Attributes:
        folder: of the ground truth, with the predictions beside it.
        images: their number.
        classes: K.
        size: (H, W).
    """

    folder: Path
    images: int
    classes: int
    size: tuple[int, int]

    def write(self) -> None:
        """Fill the folder."""
        for number in range(DISTINCT):
            ground_truth, prediction = random_maps(number, self.classes, self.size)
            Image.fromarray(ground_truth.astype(np.uint16)).save(self.folder / f"{number}.png")
            np.save(self.folder / f"{number}.npy", prediction)

    def register(self) -> None:
        """Register the maps as a semantic data set of the process."""
        files = [
            {
                "file_name": f"{image}.jpg",
                "sem_seg_file_name": str(self.folder / f"{image % DISTINCT}.png"),
            }
            for image in range(self.images)
        ]
        DatasetCatalog.register(NAME, lambda: files)
        MetadataCatalog.get(NAME).set(
            evaluator_type="sem_seg",
            stuff_classes=[f"class {number}" for number in range(self.classes)],
            ignore_label=IGNORE_LABEL,
        )
        check_registered([NAME])

    def predictions(self) -> Iterator[Tensor]:
        """Yield label maps (H, W) int64, one per image."""
        maps = [torch.from_numpy(np.load(self.folder / f"{i}.npy")) for i in range(DISTINCT)]
        for image in range(self.images):
            yield maps[image % DISTINCT]


def random_maps(seed: int, classes: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return ground truth and prediction, (H, W) int64 each: regions around random points."""
    rng = np.random.default_rng(seed)
    points = rng.random((REGIONS, 2, 1, 1)) * np.reshape(size, (2, 1, 1))
    regions = ((np.indices(size) - points) ** 2).sum(axis=1).argmin(axis=0)
    shown = rng.choice(classes, min(SHOWN, classes), replace=False)
    ground_truth = rng.choice(shown, REGIONS)
    prediction = np.where(np.arange(REGIONS) % 3, ground_truth, rng.choice(classes, REGIONS))
    ground_truth[0] = IGNORE_LABEL
    return ground_truth[regions], prediction[regions]


class AsScores:
    """A label map with the interface of scores: the search for the best class costs nothing."""

    def __init__(self, labels: Tensor) -> None:
        self.labels = labels

    def argmax(self, dim: int) -> Tensor:
        return self.labels


def to_scores(labels: Tensor, classes: int) -> Tensor:
    """(H, W) -> (K, H, W) float32, whose arg-max is ``labels``."""
    return torch.zeros(classes, *labels.shape).scatter_(0, labels[None], 1.0)


@dataclass(frozen=True)
class Measured:
    """The measurements of an evaluator.

    Attributes:
        milliseconds: CPU time, median over the images.
        memory: bytes held after the first tenth of the images, and the maximum from there on.
        miou: the result.
    """

    milliseconds: float
    memory: tuple[int, int]
    miou: float


def measure(maps: Maps, way: str) -> Measured:
    """Evaluate in one of ``WAYS``, in this process."""
    torch.set_num_threads(1)
    logging.getLogger("detectron2").setLevel(logging.ERROR)  # it has no boundary scores here
    maps.register()
    make, output = WAYS[way]
    evaluator = make()
    evaluator.reset()
    times, held = [], []
    for image, labels in enumerate(maps.predictions()):
        prediction = [output(labels, maps.classes)]
        start = time.process_time()
        evaluator.process([{"file_name": f"{image}.jpg"}], prediction)
        times.append(time.process_time() - start)
        if image % max(maps.images // 100, 1) == 0:
            held.append(resident_memory())
    settled = held[len(held) // 10 :]
    miou = evaluator.evaluate()["sem_seg"]["mIoU"]
    return Measured(1e3 * statistics.median(times[WARM_UP:]), (settled[0], max(settled)), miou)


def _ours() -> DatasetEvaluator:
    return SemanticEvaluator(NAME, distributed=False)


def _theirs() -> DatasetEvaluator:
    return detectron2.evaluation.SemSegEvaluator(NAME, distributed=False)


WAYS: dict[str, tuple[Callable, Callable]] = {
    "ours, label maps": (_ours, lambda labels, _: {"sem_seg_labels": labels}),
    "ours, scores": (_ours, lambda labels, classes: {"sem_seg": to_scores(labels, classes)}),
    "Detectron2, label maps as scores": (_theirs, lambda labels, _: {"sem_seg": AsScores(labels)}),
    "Detectron2, scores": (
        _theirs,
        lambda labels, classes: {"sem_seg": to_scores(labels, classes)},
    ),
}


def time_of_reading(maps: Maps) -> float:
    """Return the CPU milliseconds of decoding a label map, which both evaluators need."""
    times = []
    for image in range(WARM_UP + 30):
        start = time.process_time()
        read_labels(maps.folder / f"{image % DISTINCT}.png")
        times.append(time.process_time() - start)
    return 1e3 * statistics.median(times[WARM_UP:])


def has_detectron2() -> bool:
    """Return whether the real one is installed: the stand-in has no such evaluator."""
    try:
        return hasattr(detectron2.evaluation, "SemSegEvaluator")
    except ImportError:  # raised by the stand-in
        return False


def report(args: argparse.Namespace) -> Iterator[str]:
    """Yield the lines of the page, as soon as they are measured."""
    with tempfile.TemporaryDirectory() as folder:
        many = Maps(Path(folder), args.images, args.classes, tuple(args.size))
        few = Maps(Path(folder), args.theirs, args.classes, tuple(args.size))
        many.write()
        reading = alone(time_of_reading, many)
        ways = {name: many if name == "ours, label maps" else few for name in WAYS}
        if not has_detectron2():
            ways = {name: maps for name, maps in ways.items() if name.startswith("ours")}
        height, width = many.size
        yield "# Speed and memory of the semantic evaluator\n"
        yield (
            "This page compares the speed of our semantic evaluator with Detectron2's: `make bench "
            f"BENCH=evaluators`, {datetime.date.today()}, {platform.machine()}, one "
            f"core, torch {torch.__version__}: label maps of {height} x {width} pixels and "
            f"{many.classes} classes. Milliseconds are CPU time per image.\n"
        )
        yield "| evaluator, input | images | ms | mIoU |\n| --- | --- | --- | --- |"
        found = {}
        for name, maps in ways.items():
            found[name] = one = alone(measure, maps, name)
            cells = "does not fit the memory |" if one is None else _cells(one)
            yield f"| {name} | {maps.images} | {cells} |"
        yield f"\nEach includes {reading:.1f} ms for decoding a label map.\n"
        yield from _verdict(found, many)


def _cells(found: Measured) -> str:
    return f"{found.milliseconds:.1f} | {found.miou:.4f}"


def _verdict(found: dict[str, Measured | None], maps: Maps) -> Iterator[str]:
    """Yield memory and ratios as text."""
    ours = found["ours, label maps"]
    early, most = (memory / 1e6 for memory in ours.memory)
    yield (
        f"Memory of ours: {early:.0f} MB after a tenth of the {maps.images} images, at most "
        f"{most:.0f} MB from there on."
    )
    theirs = {name: one for name, one in found.items() if name.startswith("Detectron2") and one}
    if not theirs:
        yield "\nThe rows of Detectron2 need the real one; here its stand-in is installed."
    for name, one in theirs.items():
        ratio = one.milliseconds / ours.milliseconds
        met = "at least" if ratio >= GATE else "less than"
        yield f"\n{name}: {ratio:.1f} times as long as ours with label maps, {met} {GATE}."


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--images", type=int, default=20_000, help="of ours (default: 20000)")
    add("--theirs", type=int, default=20, help="images of the slow rows (default: 20)")
    add("--classes", type=int, default=847)
    add("--size", type=int, nargs=2, default=(512, 683), metavar=("HEIGHT", "WIDTH"))
    args = parser.parse_args(arguments)
    if min(args.images, args.theirs) <= WARM_UP or min(args.classes, *args.size) < 1:
        raise UserError(f"--images and --theirs take more than {WARM_UP}, the others 1 or more")
    return args


def main() -> None:
    for text in report(parse_arguments()):
        print(text, flush=True)


if __name__ == "__main__":
    with exit_on_user_error():
        main()
