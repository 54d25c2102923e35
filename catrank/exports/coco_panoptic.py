"""COCO's panoptic format: PNG files of segment ids, and a JSON that says what they are."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from catrank.exports.annotations import Annotation, unicode_text
from catrank.exports.coco import FIRST_CATEGORY
from segcore.annotations.panoptic_png import encode_ids
from segcore.drawing.segments import Segment
from segcore.outlines import encode_mask, outline_area, outline_box


def panoptic_png(segment_ids: np.ndarray) -> np.ndarray:
    """Return the pixels (H, W, 3) uint8 of a map (H, W) of segment ids, 0 = none."""
    return encode_ids(segment_ids)


def panoptic_annotation(
    segment_ids: np.ndarray, annotations: Iterable[Annotation], image_id: int, file_name: str
) -> dict[str, Any]:
    """Return the entry of an image.

    Args:
        segment_ids: (H, W), 0 = none.
        annotations: what the ids are; those without a pixel in the map are left out.
        image_id: of the image's entry.
        file_name: of the PNG.
    """
    segments = []
    for annotation in annotations:
        rle = encode_mask(segment_ids == annotation.number)
        area = outline_area(rle, segment_ids.shape)
        if not area:
            continue
        entry: dict[str, Any] = {
            "id": annotation.number,
            "category_id": annotation.class_id + FIRST_CATEGORY,
            "area": area,
            "bbox": [*map(int, outline_box(rle))],
            "iscrowd": 0,
        }
        if annotation.score is not None:
            entry["score"] = round(annotation.score, 6)
        segments.append(entry)
    return {
        "image_id": image_id,
        "file_name": unicode_text(file_name),
        "segments_info": segments,
    }


def things_of(
    class_names: Sequence[str], isthing: Sequence[bool] | None, segments: Iterable[Segment]
) -> list[bool]:
    """Return which classes are things: as the vocabulary says, else those with objects."""
    if isthing is not None:
        return [*isthing]
    objects = {segment.class_id for segment in segments if segment.is_object}
    return [class_id in objects for class_id in range(len(class_names))]
