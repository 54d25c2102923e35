"""Convert segments and annotated objects to label maps, which have the same checks."""

import numpy as np

from segcore.annotations.panoptic_png import segments_of_record
from segcore.outlines import draw_outline


def paint_record(record: dict, ignore_label: int) -> np.ndarray:
    """Return the ground truth of a dataset dict as a label map.

    Args:
        record: with ``segments_info`` or ``annotations``; of overlapping objects, the last counts.
        ignore_label: of pixels without an object.

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
