"""Class ids of label maps that show each class in a colour, as annotation tools export masks."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segcore.errors import UserError
from segcore.images.pixels import upright
from segcore.images.reading import (
    check_labels,
    from_first_label,
    read_header,
    read_labels,
    read_stored_colours,
)


def pack_colors(colors: Sequence[tuple[int, int, int]]) -> bytes:
    """Return RGB colours as the three bytes of each, a short form for dataset dicts."""
    return bytes(channel for color in colors for channel in color)


def read_label_map(
    path: str | Path, ignore_label: int | None, first_label: int = 0, colors: bytes | None = None
) -> np.ndarray:
    """Read a label map of integers or, where its classes have colours, of colours.

    Args:
        path: the label map.
        ignore_label: value of pixels without a class in the result.
        first_label: the stored integer of class 0; smaller ones are pixels without a class.
        colors: of the classes, see :func:`pack_colors`; None: label maps hold integers.

    Returns:
        (H, W) integers, upright; not checked against the number of classes.

    Raises:
        UserError: as :func:`segcore.images.read_labels`, or a colour is that of no class.
    """
    if colors is not None:
        header = read_header(path)
        if not header.is_label_map and not header.lossy:
            pixels = upright(read_stored_colours(path), header.orientation)
            return find_colors(pixels, colors, path)
    return from_first_label(read_labels(path), ignore_label, first_label)


def find_colors(pixels: np.ndarray, colors: bytes, path: str | Path) -> np.ndarray:
    """Return for every pixel (H, W, 3) uint8 the index of its colour, (H, W) int64.

    Args:
        pixels: RGB.
        colors: see :func:`pack_colors`; all different.
        path: of the image, for the error message.

    Raises:
        UserError: a pixel has none of these colours.
    """
    wanted, found = (_packed(each) for each in (np.frombuffer(colors, np.uint8), pixels))
    order = np.argsort(wanted)
    index = order[np.searchsorted(wanted, found, sorter=order).clip(max=len(wanted) - 1)]
    unknown = wanted[index] != found
    if unknown.any():
        color = pixels[unknown][0].tolist()
        raise UserError(
            f"the label map {path} has the colour {color} in {np.count_nonzero(unknown)} pixels, "
            "which is that of no class: add the class or correct its colour"
        )
    return index


def _packed(colors: np.ndarray) -> np.ndarray:
    """Return colours (..., 3) uint8, or their bytes, as integers (...) int32."""
    red, green, blue = np.moveaxis(colors.reshape(*colors.shape[:-1], -1, 3), -1, 0).astype(
        np.int32
    )
    return (red << 16 | green << 8 | blue).reshape(colors.shape[:-1] or -1)


def read_class_ids(
    path: str | Path,
    num_classes: int | None,
    ignore_label: int | None,
    first_label: int = 0,
    colors: bytes | None = None,
) -> np.ndarray:
    """Read the class ids of a label map.

    Args:
        path, ignore_label, first_label, colors: see :func:`read_label_map`.
        num_classes: C; None accepts every class.

    Returns:
        (H, W) integers, 0 ... C - 1 or ``ignore_label``.

    Raises:
        UserError: as :func:`read_label_map` and :func:`segcore.images.check_labels`.
    """
    labels = read_label_map(path, ignore_label, first_label, colors)
    if num_classes is not None:
        check_labels(labels, num_classes, ignore_label, path)
    return labels


def record_class_ids(record: dict, num_classes: int | None, ignore_label: int | None) -> np.ndarray:
    """Return :func:`read_class_ids` of a dataset dict with ``sem_seg_file_name``, which may have
    ``first_label`` and ``label_colors``."""
    return read_class_ids(
        record["sem_seg_file_name"],
        num_classes,
        ignore_label,
        record.get("first_label", 0),
        record.get("label_colors"),
    )
