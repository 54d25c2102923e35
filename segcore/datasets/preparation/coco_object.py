"""Prepare COCO-Object, the 80 things of COCO and background, for semantic segmentation.

Reads, below <root>/coco-stuff (<root> is $DETECTRON2_DATASETS or "datasets"),

    annotations/val2017/*.png                       stuffthingmaps_trainval2017.zip

and writes

    annotations_detectron2_object/val2017/*.png     0 = background, 1..80 in the order of COCO

Stuff, and what has no label, is background. Complete files are kept.
"""

from pathlib import Path

import numpy as np

from segcore.datasets.label_maps import LabelMaps, make_label_maps
from segcore.datasets.preparing import find_files, label_table, relabel
from segcore.images import read_labels
from segcore.vocabulary import Vocabulary

DATASET = "coco_object_81_val"
IDS = Vocabulary.registered("coco_object_81").dataset_ids  # None: the background
LABELS = label_table({theirs - 1: id for id, theirs in enumerate(IDS) if theirs is not None}, 0)


def prepare(root: Path, *, workers: int) -> None:
    """Write the label maps.

    Raises:
        UserError: a file is missing or wrong, or cannot be written.
    """
    files = find_files(root / "coco-stuff/annotations/val2017", ".png")
    maps = LabelMaps.of(DATASET, root)
    make_label_maps(maps, {path.stem: path for path in files}, convert, workers)


def convert(path: Path) -> np.ndarray:
    """Return the label map (H, W) uint8 of a map of stuff and things."""
    return relabel(read_labels(path), LABELS, path)
