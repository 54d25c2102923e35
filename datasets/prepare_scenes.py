#!/usr/bin/env python3
"""Draw the Scenes data set.

    python datasets/prepare_scenes.py --num-images 2000 500 --size 96 --workers 2

It is written to <root>/scenes-60, or scenes-1k for a vocabulary of over 1,000 classes; <root> is
$DETECTRON2_DATASETS or "datasets". The same command continues an interrupted run.
"""

import argparse
import os
import sys
from pathlib import Path

from segcore.datasets import data_root
from segcore.errors import exit_on_user_error
from segcore.scenes import CATALOGUES, Settings, write_scenes


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--catalogue", choices=CATALOGUES, default="scenes-60", help="(default: scenes-60)"
    )
    parser.add_argument(
        "--num-images",
        type=int,
        nargs=2,
        default=(2000, 500),
        metavar=("TRAIN", "TEST"),
        help="pictures to train and to test on (default: 2000 500)",
    )
    parser.add_argument("--size", type=int, default=96, help="pixels a side (default: 96)")
    parser.add_argument("--seed", type=int, default=0, help="(default: 0)")
    parser.add_argument(
        "--panoptic", action="store_true", help="segments and instances too, in COCO's formats"
    )
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count(), help="processes (default: one a core)"
    )
    parser.add_argument("--root", type=Path, default=data_root())
    return parser.parse_args(arguments)


def main() -> None:
    arguments = parse_arguments()
    num_train, num_test = arguments.num_images
    settings = Settings(num_train, num_test, arguments.size, arguments.seed)
    catalogue = CATALOGUES[arguments.catalogue]
    hashes = write_scenes(
        arguments.root,
        catalogue,
        settings,
        panoptic=arguments.panoptic,
        workers=arguments.workers,
    )
    print(f"{arguments.root / catalogue.name}: SHA-256 of pixels and labels")
    for split, number in settings.pictures.items():
        print(f"{split:5} {number:6} pictures  {hashes[split]}")


if __name__ == "__main__":
    try:
        with exit_on_user_error():
            main()
    except KeyboardInterrupt:
        sys.exit("interrupted: the same command continues")
