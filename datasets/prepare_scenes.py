#!/usr/bin/env python3
"""Generate the synthetic data set Scenes.

    python datasets/prepare_scenes.py --num-images 2000 500 --size 96 --workers 2
    python datasets/prepare_scenes.py --catalogue scenes-1k --num-images 20000 5000
    python datasets/prepare_scenes.py --panoptic --num-videos 100 20 --num-frames 16

The script writes <root>/scenes-60, or scenes-1k with a vocabulary of over 1,000 classes; <root> is
$DETECTRON2_DATASETS or "datasets". The same command continues an interrupted run.
"""

import catrank.interrupts  # noqa: F401  before all that takes time to load

# isort: split

import argparse
import os

from segcore.datasets import data_root
from segcore.errors import exit_on_user_error
from segcore.runtime.files import path_argument
from segcore.scenes import CATALOGUES, Settings, VideoSettings, write_scenes, write_videos


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
        help="images to train and to test on (default: 2000 500)",
    )
    parser.add_argument(
        "--panoptic", action="store_true", help="also segments and instances, in COCO's formats"
    )
    parser.add_argument(
        "--num-videos",
        type=int,
        nargs=2,
        default=(0, 0),
        metavar=("TRAIN", "TEST"),
        help="videos to train and to test on (default: none)",
    )
    parser.add_argument("--num-frames", type=int, default=16, help="of a video (default: 16)")
    parser.add_argument("--size", type=int, default=96, help="pixels a side (default: 96)")
    parser.add_argument("--seed", type=int, default=0, help="(default: 0)")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count(), help="processes (default: one per core)"
    )
    parser.add_argument("--root", type=path_argument, default=data_root())
    return parser.parse_args(arguments)


def main() -> None:
    arguments = parse_arguments()
    root, workers = arguments.root, arguments.workers
    catalogue = CATALOGUES[arguments.catalogue]
    common = {"size": arguments.size, "seed": arguments.seed}
    images = Settings(*arguments.num_images, **common)
    videos = VideoSettings(*arguments.num_videos, num_frames=arguments.num_frames, **common)

    hashes = write_scenes(root, catalogue, images, panoptic=arguments.panoptic, workers=workers)
    print(f"{root / catalogue.name}: SHA-256 of pixels and labels")
    for split, number in images.images.items():
        print(f"{split:5} {number:6} images  {hashes[split]}")
    if any(arguments.num_videos):
        hashes = write_videos(root, catalogue, videos, workers=workers)
        for split, number in videos.videos.items():
            print(f"{split:5} {number:6} videos    {hashes[split]}")


if __name__ == "__main__":
    with exit_on_user_error(": the same command continues"):
        main()
