#!/usr/bin/env python3
"""Prepare COCO-Stuff (164k) for semantic segmentation.

    python datasets/prepare_coco_stuff.py

reads, below <root>/coco-stuff (<root> is $DETECTRON2_DATASETS or "datasets"),

    annotations/{train,val}2017/*.png             stuffthingmaps_trainval2017.zip

and writes

    annotations_detectron2/{train,val}2017/*.png  0..170 in the order of the classes, 255 = no class

A split that is not there is left out.
"""

import sys
from functools import partial
from pathlib import Path

from segcore.datasets.preparing import (
    find_files,
    for_all,
    label_table,
    preparing_parser,
    relabel,
    write_png,
)
from segcore.errors import UserError, exit_on_user_error
from segcore.images import read_labels
from segcore.vocabulary import vocabulary_table

SPLITS = ("train2017", "val2017")
TABLE = vocabulary_table("coco_stuff_171")
LABELS = label_table(
    {entry["png_value_164k"]: id for id, entry in enumerate(TABLE["classes"])},
    TABLE["ignore_label"],
)


def prepare(root: Path, *, workers: int) -> None:
    """Write the label maps of the splits that are there.

    Raises:
        UserError: there is none, a file is wrong, or one cannot be written.
    """
    folder = root / "coco-stuff"
    there = [split for split in SPLITS if (folder / "annotations" / split).is_dir()]
    if not there:
        raise UserError(f"there is no {folder / 'annotations' / SPLITS[1]}: unpack the download")
    for split in there:
        work = partial(prepare_picture, folder / "annotations_detectron2" / split)
        for_all(work, find_files(folder / "annotations" / split, ".png"), workers, split)


def prepare_picture(folder: Path, path: Path) -> None:
    """Write one label map; values that are no class become ignored."""
    write_png(folder / path.name, relabel(read_labels(path), LABELS, path))


def main() -> None:
    arguments = preparing_parser(__doc__).parse_args()
    prepare(arguments.root, workers=arguments.workers)


if __name__ == "__main__":
    try:
        with exit_on_user_error():
            main()
    except KeyboardInterrupt:
        sys.exit("interrupted: start again")
