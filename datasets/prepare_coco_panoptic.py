#!/usr/bin/env python3
"""Make label maps of COCO's panoptic PNG files, for the evaluation of mIoU.

    python datasets/prepare_coco_panoptic.py

reads, below <root>/coco (<root> is $DETECTRON2_DATASETS or "datasets"),

    annotations/panoptic_{train,val}2017.json   panoptic_annotations_trainval2017.zip
    panoptic_{train,val}2017/*.png              the archives in it

and writes

    panoptic_semseg_{train,val}2017/*.png       0..132 in the order of the classes, 255 = no class

A split that is not there is left out.
"""

import sys
from functools import partial
from pathlib import Path

import numpy as np

from segcore.datasets.instance import category_ids, our_category
from segcore.datasets.preparing import for_all, preparing_parser, write_png
from segcore.errors import UserError, exit_on_user_error
from segcore.panoptic import PanopticFile, read_segments
from segcore.vocabulary import Vocabulary

VOCABULARY = Vocabulary.registered("coco_panoptic_133")
IDS = category_ids(VOCABULARY)
THINGS = {theirs for theirs, ours in IDS.items() if VOCABULARY.isthing[ours]}
SPLITS = ("train2017", "val2017")


def prepare(root: Path, *, workers: int) -> None:
    """Write the label maps of the splits that are there.

    Raises:
        UserError: there is none, a file is wrong, or one cannot be written.
    """
    folder = root / "coco"
    sources = {split: folder / "annotations" / f"panoptic_{split}.json" for split in SPLITS}
    there = {split: path for split, path in sources.items() if path.is_file()}
    if not there:
        raise UserError(f"there is no {sources['val2017']}: unpack the download there")
    for split, path in there.items():
        pictures = PanopticFile(path, folder / f"panoptic_{split}").entries.values()
        work = partial(
            prepare_picture, path, folder / f"panoptic_{split}", folder / f"panoptic_semseg_{split}"
        )
        for_all(work, pictures, workers, split)


def prepare_picture(json_file: Path, source: Path, target: Path, entry: dict) -> None:
    """Write the label map of one picture.

    Args:
        json_file: that ``entry`` is from, for messages.
        source: the folder of the PNG files.
        target: the folder to write to.
        entry: what the file says of the picture's segments.

    Raises:
        UserError: PNG and JSON do not agree, or a category is none of COCO's.
    """
    path, listed = source / entry["file_name"], entry["segments_info"]
    segments = read_segments(path, listed, THINGS, str(json_file))
    classes = [
        our_category("COCO panoptic", json_file, category, IDS)
        for category in segments.categories.values()
    ]
    table = np.array([VOCABULARY.ignore_label, *classes], dtype=np.uint8)
    write_png(target / path.name, table[segments.index()])


def main() -> None:
    arguments = preparing_parser(__doc__).parse_args()
    prepare(arguments.root, workers=arguments.workers)


if __name__ == "__main__":
    try:
        with exit_on_user_error():
            main()
    except KeyboardInterrupt:
        sys.exit("interrupted: start again")
