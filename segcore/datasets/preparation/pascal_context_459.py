"""Prepare PASCAL-Context with 459 classes for semantic segmentation.

Reads, below <root>/VOCdevkit/VOC2010 (<root> is $DETECTRON2_DATASETS or "datasets"),

    trainval/*.mat              the annotations of PASCAL-Context, trainval.tar.gz
    pascalcontext_val.txt       the ids of the validation images, from the code of CAT-Seg
    JPEGImages/*.jpg            VOCtrainval_03-May-2010.tar

and writes

    annotations_detectron2/pc459_val/*.tif      16 bits: 0..458; every pixel has a class

Complete files are kept. An id without annotations is skipped.
"""

from pathlib import Path

import numpy as np

from segcore.datasets.label_maps import LabelMaps, make_label_maps
from segcore.datasets.preparing import read_mat_labels, read_names
from segcore.errors import UserError

FOLDER = "VOCdevkit/VOC2010"
DATASET = "context_459_test_sem_seg"


def prepare(root: Path, *, workers: int) -> None:
    """Write the label maps of the validation images.

    Raises:
        UserError: a file is missing or wrong, or cannot be written.
    """
    folder = root / FOLDER
    names = read_names(folder / "pascalcontext_val.txt")
    files = {name: folder / "trainval" / f"{name}.mat" for name in names}
    there = {name: path for name, path in files.items() if path.is_file()}
    if not there:
        raise UserError(f"{folder / 'trainval'} has none of the listed files: unpack the download")
    make_label_maps(LabelMaps.of(DATASET, root), there, convert, workers)


def convert(path: Path) -> np.ndarray:
    """Return the label map (H, W) uint16 of a file.

    Raises:
        UserError: the file cannot be read, or a value is not in 1..459.
    """
    labels = read_mat_labels(path, "LabelMap")
    if labels.min() < 1 or labels.max() > 459:
        raise UserError(f"{path} holds the labels {labels.min()}..{labels.max()} instead of 1..459")
    return (labels - 1).astype(np.uint16)
