"""Measure ESSNet's loss and label maps by the number of classes: `make bench BENCH=embeddings`.

    python bench/embeddings.py --classes 150 1284 --runs 1
    python bench/embeddings.py --ways exact clusters

Two crops of 64 x 64 pass a convolution of stride 4, 256 wide, and a head: "softmax" has a linear
score of every class; the others have embeddings of 12 dimensions, are compared with 7 neighbours,
and search exactly in blocks ("exact"), by faiss' flat index ("faiss") or in its clusters
("clusters", 4 of the square root of the number of classes). The last two need the extra `faiss`.

A training step is forward, backward and SGD with momentum. "held" is what every way holds: weights,
gradients and momentum; "MB" is the peak above an empty process without them. A label map is that of
both crops, with the time of an index in "first s" alone. "equal" is the share of pixels whose label
is the arg-max of the products of embeddings in float64 ("errors": with a product lower than the
maximum by more than rounding). Weights, images and labels are random. Each number is the median of
--runs processes of their own; a softmax that needs more than --memory GB is computed, not run.
"""

import catrank.interrupts  # noqa: F401  before all that takes time to load

# isort: split

import argparse
import os
from dataclasses import dataclass
from importlib.util import find_spec

# First, because segcore silences a warning that Detectron2's parts cause as they are loaded.
import pixel_networks as networks

# isort: split
import torch
from measure import free_memory, in_turn, memory_now, memory_peak, seconds
from torch import Tensor, nn

from per_pixel import PerPixelSegmenter
from per_pixel.classifier import LinearClassifier, PixelHead
from per_pixel.criterion import Criterion
from per_pixel.embeddings import Comparison, EmbeddingHead
from per_pixel.inference import LABELS
from per_pixel.losses import resize
from per_pixel.search import Search
from segcore.errors import UserError, exit_on_user_error

CLASSES = (150, 1284, 10_000, 100_000)
WAYS = ("softmax", "exact", "faiss", "clusters")
CHANNELS, STRIDE, SIDE = 256, 4, 64
DIM, NEIGHBOURS = 12, 7
MOMENTUM = 0.95
ROUNDING = 1e-6
FLOAT = 4  # bytes


@dataclass(frozen=True)
class Row:
    """Seconds; bytes of a step and of label maps beside what a way holds; shares of pixels."""

    step: float
    step_memory: float
    held: float
    first: float
    again: float
    labels_memory: float
    equal: float
    errors: float


class Patches(nn.Module):
    """A backbone of one convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, CHANNELS, STRIDE, STRIDE)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"map": self.conv(images)}


class First(nn.Module):
    """A decoder that returns the first map."""

    channels = CHANNELS

    def forward(self, maps: list[Tensor]) -> Tensor:
        return maps[0]


def build(way: str, number: int, training: bool) -> PerPixelSegmenter:
    """Return a model with one of ``WAYS`` and the same random weights at every call."""
    torch.manual_seed(0)
    if way == "softmax":
        head = PixelHead(
            *(First(), LinearClassifier(CHANNELS, number), Criterion(pixels="valid")),
            in_features=["map"],
            dropout=0.0,
        )
    else:
        comparison = Comparison(NEIGHBOURS, search=Search(way))
        head = EmbeddingHead(
            *(First(), number, DIM, comparison), in_features=["map"], test_search=Search(way)
        )
    model = PerPixelSegmenter(
        backbone=Patches(),
        decode_head=head,
        pixel_mean=[127.5] * 3,
        pixel_std=[60.0] * 3,
        ignore_label=number,  # a label of no class
        prediction_kind=LABELS,
    )
    model.may_predict = True  # with random weights
    return model.to("cuda" if torch.cuda.is_available() else "cpu").train(training)


def inputs(model: PerPixelSegmenter, training: bool) -> list[dict]:
    """Return the images, with label maps for training."""
    case = networks.Case("", training=True, side=SIDE)
    items = networks.inputs(model, case, SIDE)
    return items if training else [{"image": item["image"]} for item in items]


def measure(way: str, number: int) -> Row:
    """Measure a way with a number of classes; a small model before loads kernels and threads."""
    measure_labels(way, NEIGHBOURS + 2)
    measure_step(way, NEIGHBOURS + 2)
    labels = measure_labels(way, number)
    return Row(*measure_step(way, number), *labels)


def measure_step(way: str, number: int) -> tuple[float, float, float]:
    """Return the seconds of a training step, its bytes, and those of weights, gradients and
    momentum."""
    start = memory_now()
    model = build(way, number, training=True)
    parameters = list(model.parameters())
    optimizer = torch.optim.SGD(parameters, lr=0.01, momentum=MOMENTUM)
    for parameter in parameters:
        optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    items = inputs(model, training=True)

    def step() -> None:
        networks.loss(model, items).backward()
        optimizer.step()

    took = seconds(step)
    held = 3 * FLOAT * sum(parameter.numel() for parameter in parameters)
    return took, memory_peak() - start - held, held


@torch.no_grad()
def measure_labels(way: str, number: int) -> tuple[float, ...]:
    """Return the seconds of label maps, twice, their bytes, and the shares of pixels with the
    exact arg-max and with another one."""
    model = build(way, number, training=False)
    items = inputs(model, training=False)
    loaded, found = memory_now(), []
    first = seconds(lambda: model(items))
    again = seconds(lambda: found.extend(model(items)))
    memory = memory_peak() - loaded
    if way == "softmax":
        return first, again, memory, 1.0, 0.0
    labels = torch.stack([item["sem_seg_labels"] for item in found]).flatten()
    best, products = exact_labels(model, items, labels)
    equal = (labels == best.indices).double().mean()
    errors = (products < best.values - ROUNDING).double().mean()
    return first, again, memory, float(equal), float(errors)


def exact_labels(model: PerPixelSegmenter, items: list[dict], labels: Tensor) -> tuple:
    """Return the greatest product of each pixel's embedding with a class and that class, and the
    product with the class of ``labels``, in float64."""
    head = model.decode_head
    images = torch.stack([model.normalise(item["image"]) for item in items])
    maps = resize(head(model.backbone(images)).scores, (SIDE, SIDE), align_corners=False)
    pixels, classes = maps.movedim(1, -1).flatten(0, 2).double(), head.classes().double()
    best = [(part @ classes.T).max(dim=1) for part in pixels.split(256)]
    values, indices = (torch.cat(parts) for parts in zip(*best, strict=True))
    best = torch.return_types.max((values, indices))
    return best, (pixels * classes[labels]).sum(dim=1)


def softmax_bytes(number: int) -> int:
    """Return the bytes of the softmax head's step that grow with the classes, at least.

    Its map and the map's gradient; at the size of the labels the log-softmax, its gradient and that
    of its input; weights, gradients and momentum.
    """
    pixels = networks.BATCH * SIDE**2
    maps = 2 * pixels // STRIDE**2 + 3 * pixels
    return FLOAT * number * (maps + 3 * (CHANNELS + 1))


def line(way: str, number: int, row: Row | None) -> str:
    """Return a row of the table; None is one that did not run."""
    start = f"{number:>8} {way:<9}"
    if row is None and way == "softmax":
        return f"{start}  not run: a step needs {softmax_bytes(number) / 1e6:,.0f} MB, computed"
    if row is None:
        return f"{start}  does not fit the memory"
    text = f"{start}{row.step:>10.2f}{row.step_memory / 1e6:>8.0f}{row.held / 1e6:>8.1f}"
    text += f"{row.first:>10.2f}{row.again:>8.2f}{row.labels_memory / 1e6:>8.0f}"
    if way == "softmax":
        return text
    return f"{text}{100 * row.equal:>10.3f} %{100 * row.errors:>8.3f} %"


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--classes", type=int, nargs="+", default=list(CLASSES), help="their numbers")
    add("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    add("--runs", type=int, default=3, help="processes per number (default: 3)")
    add("--memory", type=float, help="GB of a softmax at most (default: half of what is free)")
    args = parser.parse_args(arguments)
    if args.runs < 1:
        raise UserError("--runs takes 1 or more")
    if not all(NEIGHBOURS < number <= 1_000_000 for number in args.classes):
        raise UserError(f"--classes takes {NEIGHBOURS + 1} to 1000000")
    args.memory = free_memory() / 2 if args.memory is None else args.memory * 1e9
    return args


def main() -> None:
    args = parse_arguments()
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    load = "/".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{where}, {torch.get_num_threads()} threads, {os.cpu_count()} cores, load {load}")
    if find_spec("faiss") is None:
        print("without faiss, which is not installed: pip install .[faiss]")
        args.ways = [way for way in args.ways if way in ("softmax", "exact")]
    print(f"{'':18}{'training step':>26}{'label maps':>26}")
    names = (
        f"{'s':>10}{'MB':>8}{'held':>8}{'first s':>10}{'s':>8}{'MB':>8}{'equal':>12}{'errors':>10}"
    )
    print(f"{'classes':>8} {'':<9}{names}")
    for number in args.classes:
        for way in args.ways:
            row = None
            if way != "softmax" or softmax_bytes(number) <= args.memory:
                row = in_turn({way: (measure, way, number)}, args.runs)[0][way]
            print(line(way, number, row), flush=True)


if __name__ == "__main__":
    with exit_on_user_error():
        main()
