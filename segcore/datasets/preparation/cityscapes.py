"""Prepare Cityscapes for semantic segmentation.

Reads, below <root>/cityscapes (<root> is $DETECTRON2_DATASETS or "datasets"),

    gtFine/{train,val}/<city>/*_gtFine_labelIds.png         gtFine_trainvaltest.zip
    leftImg8bit/{train,val}/<city>/*_leftImg8bit.png        leftImg8bit_trainvaltest.zip

and writes

    gtFine/{train,val}/<city>/*_gtFine_labelTrainIds.png    0..18, 255 = no class

Complete files are kept. The benchmark's tool paints the same polygons with labelIds and with
labelTrainIds, so that mapping its labelIds gives its labelTrainIds.
"""

from pathlib import Path

import numpy as np

from segcore.datasets.label_maps import LabelMaps, make_label_maps, stems
from segcore.datasets.preparing import label_table, relabel
from segcore.errors import UserError
from segcore.images import read_labels
from segcore.vocabulary import Vocabulary

DATASETS = ("cityscapes_fine_sem_seg_train", "cityscapes_fine_sem_seg_val")
SOURCE = "_gtFine_labelIds.png"
VOCABULARY = Vocabulary.registered("cityscapes_19")
LABELS = label_table(
    {theirs: id for id, theirs in enumerate(VOCABULARY.dataset_ids)}, VOCABULARY.ignore_label
)


def prepare(root: Path, *, workers: int) -> None:
    """Write the label maps of the splits that are there, beside those of the download.

    Raises:
        UserError: there is none, a file is wrong, or one cannot be written.
    """
    targets = [LabelMaps.of(name, root) for name in DATASETS]
    sources = {maps: sorted(stems(maps.folder, SOURCE)) for maps in targets}
    if not any(sources.values()):
        raise UserError(f"{targets[-1].folder} has no *{SOURCE}: unpack the download there")
    for maps, found in sources.items():
        files = {stem: maps.folder / f"{stem}{SOURCE}" for stem in found}
        if files:
            make_label_maps(maps, files, convert, workers)


def convert(path: Path) -> np.ndarray:
    """Return the label map (H, W) uint8; values that are no class become ignored."""
    return relabel(read_labels(path), LABELS, path)
