"""Segments and annotated objects as a label map, so that they are checked like one."""

import numpy as np

from segcore.annotations.panoptic_png import segments_of_record
from segcore.outlines import draw_outline


def paint_record(record: dict, ignore_label: int) -> np.ndarray:
    """The classes that the ground truth of a dataset dict has at every pixel.

    Args:
        record: with ``segments_info`` or ``annotations``; where objects overlap, later ones win.
        ignore_label: for pixels of none.

    Returns:
        (H, W) int64.

    Raises:
        UserError: a file cannot be read, a PNG and its list do not agree, an outline is wrong.
    """
    if "segments_info" in record:
        segments = segments_of_record(record)
        classes = np.array([ignore_label, *segments.categories.values()], dtype=np.int64)
        return classes[segments.index()]
    size = record["height"], record["width"]
    labels = np.full(size, ignore_label, dtype=np.int64)
    where = f"an object of {record['file_name']}"
    for entry in record["annotations"]:
        labels[draw_outline(entry.get("segmentation"), size, where)] = entry["category_id"]
    return labels
