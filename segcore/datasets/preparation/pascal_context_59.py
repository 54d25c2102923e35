"""Prepare PASCAL-Context with 59 classes for semantic segmentation.

Reads, below <root>/VOCdevkit/VOC2010 (<root> is $DETECTRON2_DATASETS or "datasets"),

    trainval_merged.json        the annotations of PASCAL in Detail
    JPEGImages/*.jpg            VOCtrainval_03-May-2010.tar

and writes

    annotations_detectron2/pc59_val/*.png       0..58, 255 = no class

Complete files are kept.
"""

from functools import partial
from pathlib import Path

import numpy as np

from segcore.annotations import read_annotations
from segcore.datasets.label_maps import LabelMaps, make_label_maps
from segcore.datasets.preparing import check_name, label_table, relabel
from segcore.errors import UserError
from segcore.images import MAX_PIXELS
from segcore.outlines import decode_mask
from segcore.vocabulary import Vocabulary

FOLDER = "VOCdevkit/VOC2010"
DATASET = "context_59_test_sem_seg"
VOCABULARY = Vocabulary.registered("pascal_context_59")
LABELS = label_table(
    {theirs: id for id, theirs in enumerate(VOCABULARY.dataset_ids)}, VOCABULARY.ignore_label
)


def prepare(root: Path, *, workers: int) -> None:
    """Write the label maps of the images of the phase "val".

    Raises:
        UserError: the file is missing or wrong, or a label map cannot be written.
    """
    path = root / FOLDER / "trainval_merged.json"
    images = read_images(path, "val")
    make_label_maps(LabelMaps.of(DATASET, root), images, partial(convert, path, LABELS), workers)


def read_images(path: Path, phase: str) -> dict[str, tuple[tuple[int, int], list[dict]]]:
    """Return {stem of an image: ((height, width), its segments in the file's order)}.

    Args:
        path: the file of PASCAL in Detail.
        phase: ``"train"`` or ``"val"``; images of other phases are left out.

    Raises:
        UserError: the file has another format.
    """
    content = read_annotations(path)
    try:
        shown = {each["image_id"]: each for each in content["images"] if each["phase"] == phase}
        segments = {id: [] for id in shown}
        for segment in content["annos_segmentation"]:
            if segment["image_id"] in segments:
                kept = {key: segment[key] for key in ("category_id", "segmentation")}
                segments[segment["image_id"]].append(kept)
        return {
            Path(check_name(image["file_name"], path)).stem: (
                (int(image["height"]), int(image["width"])),
                segments[id],
            )
            for id, image in shown.items()
        }
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is not the file of PASCAL in Detail: {error!r}") from error


def convert(
    json_file: Path, table: np.ndarray, image: tuple[tuple[int, int], list[dict]]
) -> np.ndarray:
    """Return the label map (H, W) uint8: later segments over earlier ones.

    Args:
        json_file: the source, for error messages.
        table: label of every category id; 0 is the id of pixels without a segment.
        image: (height, width) and the segments.

    Raises:
        UserError: the size is invalid, or a segment is damaged.
    """
    size, segments = image
    if min(size) < 1 or size[0] * size[1] > MAX_PIXELS:
        raise UserError(f"{json_file} has an image of {size} pixels")
    canvas = np.zeros(size, dtype=np.int64)
    for segment in segments:
        mask = decode_mask(segment["segmentation"], size, f"a segment of {json_file}")
        canvas[mask] = segment["category_id"]
    return relabel(canvas, table, json_file)
