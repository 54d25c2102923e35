"""Prepare PASCAL VOC 2012 for semantic segmentation, without and with background.

Reads, below <root>/VOCdevkit/VOC2012 (<root> is $DETECTRON2_DATASETS or "datasets"),

    ImageSets/Segmentation/val.txt        VOCtrainval_11-May-2012.tar
    SegmentationClassAug/*.png            the masks of SBD and VOC in one folder; those of val are
                                          VOC's, so a renamed SegmentationClass works too
    JPEGImages/*.jpg                      VOCtrainval_11-May-2012.tar

and writes

    annotations_detectron2/val/*.png      PAS-20: 0..19, 255 = background and no class
    annotations_detectron2_bg/val/*.png   PAS-20b: 0..19, 20 = background, 255 = no class
    annotations_detectron2_21/val/*.png   21 classes: 0 = background, 1..20, 255 = no class

Complete files are kept. A mask without any of the 20 classes is left out of PAS-20.
"""

from functools import partial
from pathlib import Path

import numpy as np

from segcore.datasets.label_maps import LabelMaps, make_label_maps
from segcore.datasets.preparing import label_table, read_names, relabel
from segcore.images import read_labels
from segcore.vocabulary import Vocabulary, vocabulary_table

FOLDER = "VOCdevkit/VOC2012"
IGNORED = 255
OBJECTS = {theirs: id for id, theirs in enumerate(Vocabulary.registered("voc20").dataset_ids)}
BACKGROUND = vocabulary_table("voc20b")["background"]
LABELS = {
    "voc_2012_test_sem_seg": label_table(OBJECTS, IGNORED),
    "voc_2012_test_background_sem_seg": label_table(
        OBJECTS | {BACKGROUND["dataset_id"]: BACKGROUND["first"]}, IGNORED
    ),
    "voc_2012_21_val": label_table(
        {theirs: id for id, theirs in enumerate(Vocabulary.registered("voc21").dataset_ids)},
        IGNORED,
    ),
}


def prepare(root: Path, *, workers: int) -> None:
    """Write the label maps of the three data sets.

    Raises:
        UserError: a file is missing or wrong, or cannot be written.
    """
    folder = root / FOLDER
    names = read_names(folder / "ImageSets/Segmentation/val.txt")
    masks = {name: folder / "SegmentationClassAug" / f"{name}.png" for name in names}
    for dataset, table in LABELS.items():
        make_label_maps(LabelMaps.of(dataset, root), masks, partial(convert, table), workers)


def convert(table: np.ndarray, path: Path) -> np.ndarray | None:
    """Return the label map of a mask; None if all its pixels are ignored."""
    labels = relabel(read_labels(path), table, path)
    return None if (labels == IGNORED).all() else labels
