"""Measure per-pixel models' speed and memory on this machine: `make bench BENCH=pixel_classifiers`.

    python bench/pixel_classifiers.py --models upernet_swin_b --classes 150 --runs 1
    python bench/pixel_classifiers.py --curve --classes 60 1000 10000 --runs 1

Weights, images and labels are random, which changes neither the arithmetic nor the memory. An image
has the side of the config's crops, 512 or 640, and the result is a label map. A training step is
forward and backward of two such images, without optimizer. "plain" scores all classes, "rankseg" is
the published model with RankSeg, which scores the selected ones. "transformers" is the plain model
with the same weights in that library (extra `bench`), where it has the network. Every number is the
median of --runs separate processes; the ways take turns. "GB" is the peak above the loaded model.

--curve shows the growth with the vocabulary: small models, images of 256 x 256, 50 selected
classes. The multi-label head of the curve is "gap", whose cost for a class is one product; in
"encoder" (--head), the default of the configs, every class attends to all classes.
"""

import catrank.interrupts  # noqa: F401  before all that takes time to load

# isort: split

import argparse
import importlib.util

# First, because segcore silences a warning that Detectron2's parts cause as they are loaded.
import pixel_networks as networks

# isort: split
import torch
from measure import in_turn
from pixel_networks import Case, Measured, measure

from segcore.errors import UserError, exit_on_user_error

# By number of classes.
MODELS = {
    "segmenter_b": {
        150: "ade20k/segmenter_vit-b16_512x512_160k",
        1284: "coco_lvis/segmenter_vit-b16_512x512_320k",
    },
    "deeplabv3_r101": {
        150: "ade20k/deeplabv3_r101-d8_512x512_80k",
        1284: "coco_lvis/deeplabv3_r101-d8_512x512_160k",
    },
    "upernet_swin_b": {
        150: "ade20k/upernet_swin-b_512x512_160k",
        1284: "coco_lvis/upernet_swin-b_512x512_160k",
    },
    "upernet_beit_l": {150: "ade20k/upernet_beit-l_640x640_160k"},
}
IN_TRANSFORMERS = ("upernet_swin_b", "upernet_beit_l")
TASKS = ("image", "training")
# The small models of the curve: a config, and changes to it.
CURVES = {
    "segmenter": (
        "per_pixel/ade20k/segmenter_vit-b16_512x512_160k.yaml",
        {
            "MODEL.VIT.IMAGE_SIZE": 256,
            "MODEL.VIT.EMBED_DIM": 192,
            "MODEL.VIT.NUM_HEADS": 3,
            "MODEL.VIT.DEPTH": 4,
            "MODEL.PER_PIXEL.CHANNELS": 192,
            "MODEL.PER_PIXEL.NUM_HEADS": 3,
        },
    ),
    "deeplabv3": (
        "per_pixel/ade20k/deeplabv3_r101-d8_512x512_80k.yaml",
        {"MODEL.RESNETS.DEPTH": 50, "MODEL.PER_PIXEL.CHANNELS": 192},
    ),
}
CURVE_CLASSES = (60, 1000, 10_000, 100_000)
CURVE_SIDE = 256
SELECTED = 50


def ways(model: str, number: int, training: bool) -> dict[str, tuple[Case, bool]]:
    """Return the cases of a model with a number of classes by way, and which are transformers'."""
    config = f"per_pixel/{MODELS[model][number]}"
    plain = Case(f"{config}.yaml", training)
    found = {
        "plain": (plain, False),
        "rankseg": (Case(f"{config}-rankseg.yaml", training), False),
    }
    if model in IN_TRANSFORMERS and importlib.util.find_spec("transformers") is not None:
        found["transformers"] = (plain, True)
    return found


def table_of_models(args: argparse.Namespace) -> None:
    """Print a table for each model, number of classes and task."""
    print(f"  {'':<14}{'total s':>10}{'forward s':>11}{'backward s':>12}{'GB':>8}")
    for model in args.models:
        for number in (number for number in MODELS[model] if number in args.classes):
            for task in args.tasks:
                found = ways(model, number, task == "training")
                cases = {way: (measure, *arguments) for way, arguments in found.items()}
                results, rate = in_turn(cases, args.runs)
                print(f"{model}, {number} classes, {task}; the machine: {rate / 1e9:.1f} GMAC/s")
                for way, measured in results.items():
                    print(line(way, measured), flush=True)


def line(name: str, found: Measured | None) -> str:
    """Return a row of the table."""
    if found is None:
        return f"  {name:<14}  does not fit the memory"
    seconds = f"{found.forward + found.backward:>10.2f}{found.forward:>11.2f}"
    backward = f"{found.backward:.2f}" if found.backward else ""
    return f"  {name:<14}{seconds}{backward:>12}{found.memory / 1e9:>8.2f}"


def curve_case(host: str, number: int, ranked: bool, training: bool, head: str = "gap") -> Case:
    """Return a small model; ``ranked``: with RankSeg, which scores the selected classes alone."""
    config, changes = CURVES[host]
    options = changes | {
        "DATASETS.TRAIN": (),
        "DATASETS.TEST": (),
        "MODEL.SEM_SEG_HEAD.NUM_CLASSES": number,
        "MODEL.SEM_SEG_HEAD.IGNORE_VALUE": number,  # a label of no class
    }
    if ranked:
        options |= {
            "MODEL.RANKSEG.FLAG": True,
            "MODEL.RANKSEG.HEAD": head,
            "MODEL.RANKSEG.HIDDEN_DIM": 192,
            "MODEL.RANKSEG.POOL": 8,
            "MODEL.RANKSEG.TOPK": SELECTED,
            "MODEL.RANKSEG.LOSS_WEIGHT": 10.0,
        }
    return Case(config, training, networks.pairs(options), CURVE_SIDE)


def table_of_growth(args: argparse.Namespace) -> None:
    """Print seconds and memory of small models by the number of classes."""
    columns = [(task, way) for task in args.tasks for way in ("plain", "rankseg")]
    for host in CURVES:
        print(f"{host}, {CURVE_SIDE} x {CURVE_SIDE}, {SELECTED} selected classes: seconds, GB")
        print(f"{'classes':>9}" + "".join(f"{f'{task} {way}':>20}" for task, way in columns))
        for number in args.classes:
            cases = {
                (task, way): (
                    measure,
                    curve_case(host, number, way == "rankseg", task == "training", args.head),
                    False,
                )
                for task, way in columns
            }
            results, _ = in_turn(cases, args.runs)
            cells = "".join(f"{cell(found):>20}" for found in results.values())
            print(f"{number:>9}{cells}", flush=True)


def cell(found: Measured | None) -> str:
    """Return seconds and GB of a measurement."""
    if found is None:
        return "does not fit"
    return f"{found.forward + found.backward:.2f}, {found.memory / 1e9:.2f}"


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--models", nargs="+", choices=MODELS, default=list(MODELS))
    add("--classes", type=int, nargs="+", help="their numbers (default: 150 1284; of --curve more)")
    add("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    add("--runs", type=int, default=5, help="processes per number (default: 5)")
    add("--curve", action="store_true", help="measure small models with many classes instead")
    add("--head", choices=("gap", "encoder"), default="gap", help="of --curve (default: gap)")
    args = parser.parse_args(arguments)
    args.classes = args.classes or (CURVE_CLASSES if args.curve else (150, 1284))
    if args.runs < 1:
        raise UserError("--runs takes 1 or more")
    if args.curve and not all(SELECTED <= number <= 1_000_000 for number in args.classes):
        raise UserError(f"--curve takes --classes from {SELECTED} to 1000000")
    if not args.curve and not all(number in (150, 1284) for number in args.classes):
        raise UserError("--classes takes 150 and 1284; other numbers with --curve")
    return args


def main() -> None:
    args = parse_arguments()
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    print(f"seconds and GB, {where}, {torch.get_num_threads()} threads")
    if args.curve:
        table_of_growth(args)
        return
    if importlib.util.find_spec("transformers") is None:
        print("without transformers, which is not installed: pip install .[bench]")
    table_of_models(args)


if __name__ == "__main__":
    with exit_on_user_error():
        main()
