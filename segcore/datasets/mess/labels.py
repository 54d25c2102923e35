"""Convert labels of the downloads: each function returns a source's class ids, (H, W) uint8.

255 is "no class". ``dataset_id`` in the set's vocabulary lists the colours or values of the
classes; others become 255.
"""

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segcore.datasets.mess.images import stored_pixels
from segcore.datasets.mess.sources import Source
from segcore.datasets.preparing import label_table, relabel
from segcore.errors import UserError
from segcore.images import MAX_PIXELS, read_labels
from segcore.vocabulary import Vocabulary

IGNORED = 255
WHITE = 255


def by_value(name: str, source: Source) -> np.ndarray:
    """Read a map of the values of a set's classes."""
    (path,) = source.labels
    return relabel(read_labels(path), _table(name), path)


def by_colour(name: str, source: Source, *, threshold: int | None = None) -> np.ndarray:
    """Read a map of the colours of a set's classes.

    Args:
        threshold: channels above it become 255 and the others 0, for maps with soft borders; None
            keeps them.
    """
    (path,) = source.labels
    pixels = stored_pixels(path)
    if threshold is not None:
        pixels = np.where(pixels > threshold, np.uint8(WHITE), np.uint8(0))
    return colours_to_ids(pixels, _dataset_ids(name))


def colours_to_ids(pixels: np.ndarray, colours: Sequence[Sequence[int]]) -> np.ndarray:
    """Return class ids (H, W) uint8 of colours (H, W, 3) uint8; other colours become 255.

    Args:
        colours: RGB of the classes, at most 255.
    """
    table = np.full(1 << 24, IGNORED, np.uint8)
    table[_colour_codes(np.array(colours))] = np.arange(len(colours))
    return table[_colour_codes(pixels)]


def _colour_codes(colours: np.ndarray) -> np.ndarray:
    """Return one number for each colour (..., 3)."""
    red, green, blue = np.moveaxis(colours.astype(np.int32), -1, 0)
    return red << 16 | green << 8 | blue


def white(source: Source) -> np.ndarray:
    """Return 1 where a mask is white; greys are 0, as in the published preparation."""
    (path,) = source.labels
    return (stored_pixels(path)[..., 0] == WHITE).astype(np.uint8)


def without_invalid(name: str, source: Source) -> np.ndarray:
    """Return :func:`by_value` of the first label file, without pixels that the second has white."""
    path, invalid = source.labels
    ids, mask = relabel(read_labels(path), _table(name), path), stored_pixels(invalid, "L")
    _check_shapes(ids, mask, invalid)
    return np.where(mask == WHITE, np.uint8(IGNORED), ids)


def largest(name: str, source: Source) -> np.ndarray:
    """Return :func:`by_value` of the maximum of several maps at each pixel."""
    maps = [read_labels(path) for path in source.labels]
    for labels, path in zip(maps, source.labels, strict=True):
        _check_shapes(maps[0], labels, path)
    return relabel(np.maximum.reduce(maps), _table(name), source.labels[0])


def class_of_folder(source: Source) -> np.ndarray:
    """Return the class, which the name of the image's folder begins with, where the mask is
    brighter than half, else 0. Five annotators drew each bird: the brightness is their mean."""
    (path,) = source.labels
    number = source.image.parent.name.partition(".")[0]
    if not (number.isascii() and number.isdigit() and int(number) < IGNORED):
        raise UserError(f"the folder of {source.image} does not begin with the class: rename it")
    return (stored_pixels(path, "L") > 128) * np.uint8(int(number))


def plane(index: int, source: Source) -> np.ndarray:
    """Read one mask of a stack (n, H, W) in a ``.npy`` file, without loading the others."""
    (path,) = source.labels
    if not path.is_file():
        raise UserError(f"no file at {path}")
    try:
        stack = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    if stack.ndim != 3 or len(stack) <= index or stack[index].size > MAX_PIXELS:
        raise UserError(f"{path} has the shape {stack.shape}: it needs more than {index} masks")
    return (stack[index] != 0).astype(np.uint8)


def _check_shapes(labels: np.ndarray, other: np.ndarray, path: Path) -> None:
    if other.shape != labels.shape:
        raise UserError(
            f"{path} has (height, width) {other.shape}, but another label map of the same image "
            f"has {labels.shape}: the two must agree"
        )


@functools.cache
def _table(name: str) -> np.ndarray:
    """Return the table of value -> class id for :func:`relabel`; classes may have several."""
    ids = {}
    for id, values in enumerate(_dataset_ids(name)):
        ids |= dict.fromkeys(values if isinstance(values, tuple) else (values,), id)
    return label_table(ids, IGNORED)


def _dataset_ids(name: str) -> tuple:
    return Vocabulary.registered(f"mess_{name}").dataset_ids
