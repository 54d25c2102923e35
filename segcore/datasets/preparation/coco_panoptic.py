"""Convert COCO's panoptic PNG files to label maps, for the evaluation of mIoU.

Reads, below <root>/coco (<root> is $DETECTRON2_DATASETS or "datasets"),

    annotations/panoptic_{train,val}2017.json   panoptic_annotations_trainval2017.zip
    panoptic_{train,val}2017/*.png              the archives in it

and writes

    panoptic_semseg_{train,val}2017/*.png       0..132 in the order of the classes, 255 = no class

Complete files are kept. A split whose download is missing is skipped.
"""

from functools import partial
from pathlib import Path

import numpy as np

from segcore.annotations import PanopticEntry
from segcore.annotations.panoptic_png import PanopticFile, read_segments
from segcore.datasets.instance import category_ids, our_category
from segcore.datasets.label_maps import LabelMaps, make_label_maps
from segcore.datasets.preparing import check_name
from segcore.errors import UserError
from segcore.vocabulary import Vocabulary

VOCABULARY = Vocabulary.registered("coco_panoptic_133")
IDS = category_ids(VOCABULARY)
THINGS = {theirs for theirs, ours in IDS.items() if VOCABULARY.isthing[ours]}
SPLITS = {
    "train2017": "coco_2017_train_panoptic_with_sem_seg",
    "val2017": "coco_2017_val_panoptic_with_sem_seg",
}


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
        entries = PanopticFile(path, folder / f"panoptic_{split}").entries.values()
        images = {Path(check_name(each.file_name, path)).stem: each for each in entries}
        maps = LabelMaps.of(SPLITS[split], root, "semantic_labels")
        make_label_maps(maps, images, partial(convert, path, folder / f"panoptic_{split}"), workers)


def convert(json_file: Path, source: Path, entry: PanopticEntry) -> np.ndarray:
    """Return the label map (H, W) uint8 of one image.

    Args:
        json_file: the source of ``entry``, for messages.
        source: the folder of the PNG files.
        entry: the image's segments in that file.

    Raises:
        UserError: PNG and JSON do not agree, or a category is none of COCO's.
    """
    segments = read_segments(source / entry.file_name, entry.segments, THINGS, str(json_file))
    classes = [
        our_category("COCO panoptic", json_file, category, IDS)
        for category in segments.categories.values()
    ]
    table = np.array([VOCABULARY.ignore_label, *classes], dtype=np.uint8)
    return table[segments.index()]
