"""Which classes an image or a video shows, by its ground truth."""

from collections.abc import Iterable

import numpy as np

from segcore.errors import UserError
from segcore.images import read_class_ids
from segcore.videos import read_frame_labels


def shown_classes(record: dict, num_classes: int, ignore_label: int | None) -> np.ndarray:
    """The classes of an image in its own size, so that small things count.

    Args:
        record: a dataset dict with ``segments_info``, ``sem_seg_file_name`` or ``annotations``;
            where it has several, the first of these is looked at.
        num_classes: C, of the model.
        ignore_label: of label maps.

    Returns:
        (n,) int64, ascending.

    Raises:
        UserError: the record does not tell, its label map cannot be read, or it shows a class that
            is not in 0 ... C - 1.
    """
    name = record["file_name"]
    if "sem_seg_file_name" in record and "segments_info" not in record:
        path, first_label = record["sem_seg_file_name"], record.get("first_label", 0)
        labels = read_class_ids(path, num_classes, ignore_label, first_label)
        ids = np.unique(labels[labels != ignore_label])
    else:
        objects = record.get("segments_info", record.get("annotations"))
        if objects is None:
            raise UserError(
                f"nothing tells which classes {name} shows: its data set has neither label maps "
                "nor segments nor annotations"
            )
        ids = np.unique([each["category_id"] for each in objects])
    return _checked(ids, num_classes, name)


def shown_in_video(record: dict, num_classes: int, ignore_label: int | None) -> np.ndarray:
    """The classes that any frame of a video shows.

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
            f"nothing tells which classes {name} shows: its data set has neither label maps nor "
            "annotations"
        )
    return _checked({int(id) for frame in found for id in frame}, num_classes, name)


def _checked(ids: Iterable[int], num_classes: int, name: str) -> np.ndarray:
    """Class ids in order, all of which the model knows."""
    ids = np.array(sorted(ids), dtype=np.int64)
    if (ids >= num_classes).any() or (ids < 0).any():
        raise UserError(
            f"{name} shows class {ids.max()}, but the model knows {num_classes}: give the model "
            "the classes of the data set"
        )
    return ids
