"""Prepare COCO-Stuff (164k) for semantic segmentation.

Reads, below <root>/coco-stuff (<root> is $DETECTRON2_DATASETS or "datasets"),

    annotations/{train,val}2017/*.png             stuffthingmaps_trainval2017.zip

and writes

    annotations_detectron2/{train,val}2017/*.png  0..170 in the order of the classes, 255 = no class

Complete files are kept. A split whose download is missing is skipped.
"""

from pathlib import Path

import numpy as np

from segcore.datasets.label_maps import LabelMaps, make_label_maps
from segcore.datasets.preparing import find_files, label_table, relabel
from segcore.errors import UserError
from segcore.images import read_labels
from segcore.vocabulary import vocabulary_table

SPLITS = {
    "train2017": "coco_2017_train_stuff_all_sem_seg",
    "val2017": "coco_2017_test_stuff_all_sem_seg",
}
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
    sources = {root / "coco-stuff/annotations" / split: name for split, name in SPLITS.items()}
    there = {folder: name for folder, name in sources.items() if folder.is_dir()}
    if not there:
        raise UserError(f"there is no {list(sources)[-1]}: unpack the download there")
    for folder, name in there.items():
        files = {path.stem: path for path in find_files(folder, ".png")}
        make_label_maps(LabelMaps.of(name, root), files, convert, workers)


def convert(path: Path) -> np.ndarray:
    """Return the label map (H, W) uint8; values that are no class become ignored."""
    return relabel(read_labels(path), LABELS, path)
