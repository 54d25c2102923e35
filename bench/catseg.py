"""Measure CAT-Seg's speed and memory on this machine, beside a baseline: `make bench`.

    python bench/catseg.py --words 20 150 --runs 1
    python bench/catseg.py --training
    python bench/catseg.py --rounding

Weights and image are random, which does not change the arithmetic. Inference is the published
patch inference with five crops, and returns labels. "baseline" is bench/baseline_catseg.py: every
class in one batch, guidance repeated, classes padded to 256, text at 77 tokens, all scores at full
size. --reference also runs the authors' code. Every number is the median of --runs separate
processes; the implementations take turns. "GB" is the peak above the loaded model. "limit" is the
time that the multiply-adds of the exact computation take at the rate of a 2048^3 float32 product,
measured between the runs: no code that computes them can be faster.
"""

import catrank.interrupts  # noqa: F401  before all that takes time to load

# isort: split

import argparse
import os
from dataclasses import dataclass
from functools import partial

# First, because segcore silences a warning that Detectron2's parts cause as they are loaded.
import catseg_d2

# isort: split
import torch
from baseline_catseg import BaselineCATSeg
from catseg_models import HEIGHT, WIDTH, build, random_image
from measure import in_turn, memory_now, memory_peak, seconds
from reduced_precision import table_of_precisions
from reference import build_reference
from vocabulary import many_class_names

from segcore.errors import UserError, exit_on_user_error
from segcore.vocabulary import Vocabulary

PUBLISHED_VOCABULARIES = {20: "voc20", 150: "ade20k_150", 847: "ade20k_847"}
# Multiply-adds of one image, by the number of classes, ViT-B: counted for the exact computation.
ARITHMETIC = {20: 0.40e12, 150: 1.21e12, 847: 1.87e12}


@dataclass(frozen=True)
class Measured:
    """Medians, or one run: seconds to embed the text, seconds per image, bytes above the model."""

    text: float
    image: float
    memory: float


def segment(config: str, number: int, baseline: bool) -> Measured:
    """Embed a class name and then all, segment two images; time the second call of both.

    The first call includes one-time reads and allocations.
    """
    model = build(
        config,
        TEST__SLIDING_WINDOW=True,
        TEST__SEM_SEG_OUTPUT="labels",
        MODEL__SEM_SEG_HEAD__POOLING_SIZES=[1, 1],
    ).eval()
    vocabulary = PUBLISHED_VOCABULARIES.get(number) or many_class_names(number)
    image = random_image()
    segmenter = BaselineCATSeg(model) if baseline else model
    prediction = partial(predict_labels, segmenter, image.to(model.device))
    loaded = memory_now()
    segmenter.set_vocabulary("grass")
    text = seconds(partial(segmenter.set_vocabulary, vocabulary))
    prediction()
    return Measured(text, seconds(prediction), memory_peak() - loaded)


def predict_labels(
    segmenter: BaselineCATSeg | catseg_d2.CATSeg, image: torch.Tensor
) -> torch.Tensor:
    """image (3, h, w) uint8 -> labels (h, w)."""
    if isinstance(segmenter, BaselineCATSeg):
        return segmenter(image).argmax(dim=0)
    return segmenter([{"image": image}])[0]["sem_seg_labels"]


def segment_reference(checkout: str, number: int) -> Measured:
    """Do the same with the authors' code, whose first image includes embedding the text."""
    vocabulary = Vocabulary.load(PUBLISHED_VOCABULARIES.get(number) or many_class_names(number))
    model = build_reference(checkout, list(vocabulary.prompts))
    item = {"image": random_image(), "height": HEIGHT, "width": WIDTH}
    loaded = memory_now()
    with torch.no_grad():
        first = seconds(lambda: model([item]))
        second = seconds(lambda: model([item])[0]["sem_seg"].argmax(dim=0))
    return Measured(max(first - second, 0.0), second, memory_peak() - loaded)


def train(config: str, way: str) -> Measured:
    """Run forward and backward of one image with COCO-Stuff's 171 classes, without optimizer."""
    keep = way != "recomputed"
    model = build(config, MODEL__SEM_SEG_HEAD__ACTIVATION_CHECKPOINTING=not keep).train()
    generator = torch.Generator().manual_seed(0)
    size = model.side
    image = torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, len(model.train_vocabulary), size, generator=generator)

    def step() -> None:
        if way == "baseline":
            loss = BaselineCATSeg(model).loss(image.to(model.device), labels.to(model.device))
        else:
            loss = sum(model([{"image": image, "sem_seg": labels}]).values())
        loss.backward()

    memory_now()
    return Measured(0.0, seconds(step), memory_peak())


def table_of_inference(args: argparse.Namespace) -> None:
    print(f"{'words':>7}  {'':<10}{'text s':>9}{'image s':>11}{'GB':>7}{'limit s':>9}{'GMAC/s':>8}")
    ways = ("ours",) if args.ours_alone else ("baseline", "ours")
    for number in args.words:
        cases = {way: (segment, args.config_file, number, way == "baseline") for way in ways}
        if args.reference:
            cases["reference"] = (segment_reference, args.reference, number)
        results, rate = in_turn(cases, args.runs)
        limit = f"{ARITHMETIC[number] / rate:.2f}" if number in ARITHMETIC else ""
        for way, found in results.items():
            numbers = (
                f"{found.text:>9.2f}{found.image:>11.2f}{found.memory / 1e9:>7.2f}"
                if found
                else f"{'does not fit the memory':>27}"
            )
            print(f"{number:>7}  {way:<10}{numbers}{limit:>9}{rate / 1e9:>8.1f}", flush=True)


def table_of_training(args: argparse.Namespace) -> None:
    print("one training step, 171 classes, one image; GB: the whole process")
    cases = {way: (train, args.config_file, way) for way in ("baseline", "kept", "recomputed")}
    if args.ours_alone:
        del cases["baseline"]
    results, rate = in_turn(cases, args.runs)
    for way, found in results.items():
        numbers = (
            f"{found.image:>8.2f} s{found.memory / 1e9:>7.2f} GB"
            if found
            else "  does not fit the memory"
        )
        print(f"{way:<12}{numbers}{rate / 1e9:>8.1f} GMAC/s", flush=True)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--config-file", default="catseg_d2/vitb_384.yaml")
    add("--words", type=int, nargs="+", default=[20, 150, 847, 20_000], help="numbers of classes")
    add("--runs", type=int, default=5, help="processes per number (default: 5)")
    add("--device", choices=("cpu", "cuda"), help="default: a GPU where there is one")
    add("--ours-alone", action="store_true", help="leave out the baseline")
    add("--reference", metavar="FOLDER", help="a checkout of the authors' code, to run beside ours")
    add("--training", action="store_true", help="measure a training step instead")
    add("--rounding", action="store_true", help="error and speed of reduced precision instead")
    args = parser.parse_args(arguments)
    if args.runs < 1 or not all(1 <= number <= 20_000 for number in args.words):
        raise UserError("--runs takes 1 or more, --words numbers from 1 to 20000")
    return args


def settle_device(device: str | None) -> str:
    """Restrict this process and those that it starts to a device; return the device's name.

    Raises:
        UserError: a GPU is asked for, and there is none.
    """
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before CUDA is used for the first time
    elif device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: there is no GPU that PyTorch can use; leave the option out")
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"


def main() -> None:
    args = parse_arguments()
    where = settle_device(args.device)
    print(f"{args.config_file}, {WIDTH} x {HEIGHT}, {where}, {torch.get_num_threads()} threads")
    if args.rounding:
        table_of_precisions(args.config_file, args.words, args.runs)
    elif args.training:
        table_of_training(args)
    else:
        table_of_inference(args)


if __name__ == "__main__":
    with exit_on_user_error():
        main()
