"""Prepare COCO-Stuff 10k for semantic segmentation.

Reads, below <root>/coco/coco_stuff_10k (<root> is $DETECTRON2_DATASETS or "datasets"),

    imageLists/{train,test}.txt                 cocostuff-10k-v1.1.zip
    annotations/*.mat                           the same
    images/*.jpg                                the same

and writes

    annotations_detectron2/{train,test}/*.png   0..170 in the order of the classes, 255 = no class
    images_detectron2/{train,test}/*.jpg        the images, sorted into their splits

Complete files are kept.
"""

import shutil
from functools import partial
from pathlib import Path

import numpy as np

from segcore.datasets.label_maps import LabelMaps, make_label_maps
from segcore.datasets.preparing import (
    for_all,
    label_table,
    read_mat_labels,
    read_names,
    relabel,
)
from segcore.errors import UserError
from segcore.runtime.files import replace
from segcore.vocabulary import Vocabulary

FOLDER = "coco/coco_stuff_10k"
SPLITS = {
    "train": "coco_2017_train_stuff_10k_sem_seg",
    "test": "coco_2017_test_stuff_10k_sem_seg",
}
VOCABULARY = Vocabulary.registered("coco_stuff_171")
LABELS = label_table(
    {theirs: id for id, theirs in enumerate(VOCABULARY.dataset_ids)}, VOCABULARY.ignore_label
)


def prepare(root: Path, *, workers: int) -> None:
    """Write the label maps and copy the images of both splits.

    Raises:
        UserError: a file is missing or wrong, or cannot be written.
    """
    folder = root / FOLDER
    for split, dataset in SPLITS.items():
        names = read_names(folder / "imageLists" / f"{split}.txt")
        maps = LabelMaps.of(dataset, root)
        for_all(partial(copy, folder / "images", maps.image_folder), names, workers, split)
        files = {name: folder / "annotations" / f"{name}.mat" for name in names}
        make_label_maps(maps, files, convert, workers)


def copy(source: Path, target: Path, name: str) -> None:
    """Copy the image ``name`` from one folder to another, unless it is there."""
    image, copied = source / f"{name}.jpg", target / f"{name}.jpg"
    if not image.is_file():
        raise UserError(f"no file at {image}: unpack the download there")
    if not copied.is_file() or copied.stat().st_size != image.stat().st_size:
        target.mkdir(parents=True, exist_ok=True)
        replace(copied, partial(shutil.copyfile, image))


def convert(path: Path) -> np.ndarray:
    """Return the label map (H, W) uint8 of a file; 0 and values without a class become ignored."""
    return relabel(read_mat_labels(path, "S"), LABELS, path)
