"""Check, decode and encode outlines of objects in COCO's formats: polygons and RLE masks."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from pycocotools import mask as library
from torch import Tensor

from segcore.errors import UserError, printable

SMALLEST_POLYGON = 6  # numbers: three corners
MOST_BITS = 30  # of a number of an RLE with its sign; enough for the largest readable image

# Polygons x0, y0, x1, y1, ..., or {"size": [height, width], "counts": COCO's compressed RLE}.
Outline = list[list[float]] | dict[str, Any]


def check_outline(segmentation: object, size: tuple[int, int], where: str) -> Outline | None:
    """Return the polygons of three corners or more, or the RLE in compressed form.

    The result is safe for pycocotools, which checks nothing.

    Args:
        segmentation: the value of that key of an annotation.
        size: (height, width) of the image.
        where: the file, entry and key; the error message begins with it.

    Returns:
        None if there is no outline: null, or no polygon of three corners.

    Raises:
        UserError: it is neither polygons nor an RLE, is damaged, or does not fit the image.
    """
    if segmentation is None:
        return None
    if isinstance(segmentation, list):
        return _sound_polygons(segmentation, size, where) or None
    counts = _sound_counts(segmentation, size, where)
    if isinstance(segmentation["counts"], list):
        compressed = library.frPyObjects({"size": [*size], "counts": counts}, *size)["counts"]
    else:
        compressed = segmentation["counts"]
    compressed = compressed.decode("ascii") if isinstance(compressed, bytes) else compressed
    return {"size": [*size], "counts": compressed}


def draw_outline(segmentation: object, size: tuple[int, int], where: str) -> np.ndarray:
    """Return the pixels of an object, (height, width) bool; see :func:`check_outline`."""
    if isinstance(segmentation, list):
        return rasterise(check_polygons(segmentation, size, where), size)
    return decode_mask(segmentation, size, where)


def check_polygons(
    polygons: Sequence[Sequence[float]], size: tuple[int, int], where: str
) -> list[np.ndarray]:
    """Return the polygons of an object as points (n, 2) of x and y.

    Args:
        polygons: each x0, y0, x1, y1, ...; those of less than three corners are left out.
        size: (height, width) of the image.
        where: the error message begins with it.

    Raises:
        UserError: a polygon is no list of pairs of numbers, or lies far outside of the image
            (the work to draw it grows with its length).
    """
    sound = _sound_polygons(polygons, size, where)
    return [np.asarray(polygon, dtype=np.float64).reshape(-1, 2) for polygon in sound]


def _sound_polygons(
    polygons: Sequence[Sequence[float]], size: tuple[int, int], where: str
) -> list[list[float]]:
    """Return the polygons of three corners or more; see :func:`check_polygons`.

    Built-in functions over whole lists are several times as fast as arrays here.
    """
    height, width = size
    found = []
    for polygon in polygons:
        polygon = polygon.tolist() if isinstance(polygon, np.ndarray) else polygon
        is_flat = isinstance(polygon, list | tuple) and {*map(type, polygon)} <= {int, float}
        if not is_flat or len(polygon) % 2:
            raise UserError(f"{where}: a polygon is no list of pairs of numbers")
        for values, side in ((polygon[::2], width), (polygon[1::2], height)):
            inside = not values or (-side - 1 <= min(values) and max(values) <= 2 * side + 1)
            if not inside or not math.isfinite(sum(values)):  # comparisons with NaN are False
                raise UserError(
                    f"{where}: a polygon lies outside of its image of {width} x {height} pixels: "
                    "fix the file of annotations"
                )
        if len(polygon) >= SMALLEST_POLYGON:
            found.append(list(polygon))
    return found


def rasterise(polygons: Sequence[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """Return the union of polygons, each points (n, 2), as a mask (height, width) bool."""
    if not polygons:
        return np.zeros(size, dtype=bool)
    rle = merged_rle([points.ravel().tolist() for points in polygons], size)
    return library.decode(rle).astype(bool)


def merged_rle(outline: Outline, size: tuple[int, int]) -> dict[str, Any]:
    """Return the RLE of a sound outline."""
    if isinstance(outline, dict):
        return outline
    return library.merge(library.frPyObjects(outline, *size))


def outline_area(outline: Outline, size: tuple[int, int]) -> int:
    """Return the number of pixels of a sound outline."""
    return int(library.area(merged_rle(outline, size)))


def outline_box(outline: Outline) -> tuple[float, float, float, float]:
    """Return x, y, width and height of a sound outline."""
    if isinstance(outline, dict):
        return tuple(library.toBbox(outline).tolist())
    xs, ys = ([value for polygon in outline for value in polygon[start::2]] for start in (0, 1))
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def largest_area(size: tuple[int, int]) -> int:
    """Return the area of the largest polygon that :func:`check_polygons` accepts, in pixels."""
    return (3 * size[0] + 2) * (3 * size[1] + 2)


def decode_mask(rle: object, size: tuple[int, int], where: str) -> np.ndarray:
    """Decode COCO's RLE, compressed or not: (height, width) bool.

    Raises:
        UserError: it is damaged, or that of an image of another size.
    """
    lengths = np.asarray(_sound_counts(rle, size, where), dtype=np.int64)
    # pycocotools would leave memory uninitialised if the runs ended before the image.
    inside = np.arange(len(lengths)) % 2 == 1
    return np.repeat(inside, lengths).reshape(size[::-1]).T


def _sound_counts(rle: object, size: tuple[int, int], where: str) -> list[int]:
    """Return the lengths of the runs outside and inside the object in turn, column by column."""
    if not isinstance(rle, dict) or not {"size", "counts"} <= rle.keys():
        raise UserError(
            f"{where} is neither a list of polygons nor an RLE with 'size' and 'counts'"
        )
    stored, counts = rle["size"], rle["counts"]
    if not isinstance(stored, list | tuple) or [*stored] != [*size]:
        raise UserError(
            f"{where}: the RLE has the size {printable(stored, 50)}, but the image has (height, "
            f"width) {tuple(size)}: the two must agree"
        )
    try:
        if isinstance(counts, str | bytes):
            counts = decompress(counts)
        elif not isinstance(counts, list) or {*map(type, counts)} - {int}:
            raise ValueError("'counts' are no list of whole numbers")
        if not counts or min(counts) < 0 or sum(counts) != size[0] * size[1]:
            raise ValueError(f"it does not fill {size[0]} x {size[1]} pixels")
    except ValueError as error:
        raise UserError(f"{where}: the RLE is damaged: {error}") from error
    return counts


def decompress(text: str | bytes) -> list[int]:
    """Return the counts of COCO's compressed RLE.

    A character holds five bits, the lowest ones first, and whether more follow. From the fourth
    number on, the difference to the number two before is stored.

    Raises:
        ValueError: the text ends within a number, or holds another character.
    """
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    counts, value, shift = [], 0, 0
    for byte in data:
        bits = byte - 48
        if not 0 <= bits < 64 or shift >= MOST_BITS:
            raise ValueError(f"no number has the byte {byte} there")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:  # negative
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError("it ends within a number")
    return counts


def decode_masks(encoded: Sequence[dict[str, Any]]) -> Tensor:
    """Return the masks (N, H, W) bool of N > 0 RLEs of :func:`encode_masks`."""
    columns_first = library.decode([dict(each) for each in encoded])
    return torch.from_numpy(columns_first).permute(2, 0, 1).bool().contiguous()


def encode_masks(masks: Tensor) -> list[dict[str, Any]]:
    """Encode masks (N, H, W) as N of COCO's compressed RLEs."""
    columns_first = np.asfortranarray(masks.bool().permute(1, 2, 0).cpu().numpy(), dtype=np.uint8)
    encoded = library.encode(columns_first)
    return [{"size": each["size"], "counts": each["counts"].decode("ascii")} for each in encoded]


def encode_mask(mask: np.ndarray) -> dict[str, Any]:
    """Encode a mask (H, W) bool as COCO's compressed RLE."""
    encoded = library.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": encoded["size"], "counts": encoded["counts"].decode("ascii")}
