"""Find the classes that are present in an image or a video, by its ground truth."""

from collections.abc import Iterable

import numpy as np

from segcore.errors import UserError
from segcore.images import record_class_ids
from segcore.videos import read_frame_labels


def shown_classes(record: dict, num_classes: int, ignore_label: int | None) -> np.ndarray:
    """Return the classes of an image as stored, so that small objects count.

    Args:
        record: a dataset dict with ``segments_info``, ``sem_seg_file_name`` or ``annotations``;
            of several, the first in this order is read.
        num_classes: C, of the model.
        ignore_label: of label maps.

    Returns:
        (n,) int64, ascending.

    Raises:
        UserError: the record has none of these, its label map cannot be read, or a class is not in
            0 ... C - 1.
    """
    name = record["file_name"]
    if "sem_seg_file_name" in record and "segments_info" not in record:
        labels = record_class_ids(record, num_classes, ignore_label)
        ids = np.unique(labels[labels != ignore_label])
    else:
        objects = record.get("segments_info", record.get("annotations"))
        if objects is None:
            raise UserError(
                f"the classes of {name} are unknown: its data set has neither label maps nor "
                "segments nor annotations"
            )
        ids = np.unique([each["category_id"] for each in objects])
    return _checked(ids, num_classes, name)


def shown_in_video(record: dict, num_classes: int, ignore_label: int | None) -> np.ndarray:
    """Return the classes in any frame of a video.

    Args:
        record: a dataset dict with ``sem_seg_file_names`` or ``frame_annotations``.
        num_classes: C, of the model.
        ignore_label: of label maps.

    Returns:
        (n,) int64, ascending.

    Raises:
        UserError: as :func:`shown_classes`.
    """
    name = f"video {record['video_id']}"
    if "sem_seg_file_names" in record:
        size = (record["height"], record["width"])
        paths = record["sem_seg_file_names"]
        labels = (read_frame_labels(path, size, num_classes, ignore_label) for path in paths)
        found = (np.setdiff1d(each, ignore_label) for each in labels)
    elif "frame_annotations" in record:
        found = ([each["category_id"] for each in frame] for frame in record["frame_annotations"])
    else:
        raise UserError(
            f"the classes of {name} are unknown: its data set has neither label maps "
            "nor annotations"
        )
    return _checked({int(id) for frame in found for id in frame}, num_classes, name)


def _checked(ids: Iterable[int], num_classes: int, name: str) -> np.ndarray:
    """Return class ids in order; raise UserError for one that the model lacks."""
    ids = np.array(sorted(ids), dtype=np.int64)
    if (ids >= num_classes).any() or (ids < 0).any():
        raise UserError(
            f"{name} has class {ids.max()}, but the model has {num_classes} classes: give the "
            "model the classes of the data set"
        )
    return ids
