"""Prepare PASCAL-Context with 59 classes and background for semantic segmentation.

Reads, below <root>/VOCdevkit/VOC2010 (<root> is $DETECTRON2_DATASETS or "datasets"),

    trainval_merged.json        the annotations of PASCAL in Detail
    JPEGImages/*.jpg            VOCtrainval_03-May-2010.tar

and writes

    annotations_detectron2/pc60_{train,val}/*.png       0 = background, 1..59 = the other classes

Every pixel has a class. Complete files are kept.
"""

from functools import partial
from pathlib import Path

from segcore.datasets.label_maps import LabelMaps, make_label_maps
from segcore.datasets.preparation.pascal_context_59 import FOLDER, convert, read_images
from segcore.datasets.preparing import label_table
from segcore.vocabulary import Vocabulary

DATASETS = {"train": "pascal_context_60_train", "val": "pascal_context_60_val"}
VOCABULARY = Vocabulary.registered("pascal_context_60")
BACKGROUND = VOCABULARY.names.index("background")
LABELS = label_table({theirs: id for id, theirs in enumerate(VOCABULARY.dataset_ids)}, BACKGROUND)


def prepare(root: Path, *, workers: int) -> None:
    """Write the label maps of both phases.

    Raises:
        UserError: the file is missing or wrong, or a label map cannot be written.
    """
    path = root / FOLDER / "trainval_merged.json"
    for phase, dataset in DATASETS.items():
        images = read_images(path, phase)
        make_label_maps(
            LabelMaps.of(dataset, root), images, partial(convert, path, LABELS), workers
        )
