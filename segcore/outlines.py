"""Objects as COCO's files store them: polygons, or run lengths of a mask."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from pycocotools import mask as run_lengths
from torch import Tensor

from segcore.errors import UserError

SMALLEST_POLYGON = 6  # numbers: three corners
MOST_BITS = 60  # of a run length


def check_polygons(
    polygons: Sequence[Sequence[float]], size: tuple[int, int], where: str
) -> list[np.ndarray]:
    """The polygons of an object as points (n, 2) of x and y.

    Args:
        polygons: each x0, y0, x1, y1, ...; those of less than three corners are left out.
        size: (height, width) of the picture.
        where: what to call the object in messages.

    Raises:
        UserError: a polygon is no list of pairs of numbers, or lies far outside of the picture
            (the work to draw it grows with its length).
    """
    height, width = size
    found = []
    for polygon in polygons:
        try:
            points = np.asarray(polygon, dtype=np.float64).reshape(-1, 2)
        except (ValueError, TypeError) as error:
            raise UserError(f"a polygon of {where} is no list of pairs of numbers") from error
        near = np.abs(points - (width / 2, height / 2)) <= (1.5 * width + 1, 1.5 * height + 1)
        if not near.all():  # which nan is not, either
            raise UserError(
                f"a polygon of {where} lies outside of its picture of {width} x {height} pixels: "
                "mend the file of annotations"
            )
        if points.size >= SMALLEST_POLYGON:
            found.append(points)
    return found


def rasterise(polygons: Sequence[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """The pixels of any of the polygons, each points (n, 2): (height, width) bool."""
    if not polygons:
        return np.zeros(size, dtype=bool)
    drawn = run_lengths.frPyObjects([points.ravel().tolist() for points in polygons], *size)
    return run_lengths.decode(run_lengths.merge(drawn)).astype(bool)


def decode_mask(runs: object, size: tuple[int, int], where: str) -> np.ndarray:
    """COCO's run lengths, compressed or not -> (height, width) bool.

    Raises:
        UserError: they are damaged, or those of a picture of another size.
    """
    try:
        height, width = (int(side) for side in runs["size"])
        counts = runs["counts"]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{where} has neither polygons nor run lengths") from error
    if (height, width) != tuple(size):
        raise UserError(
            f"{where} has run lengths of (height, width) {height, width}, but the picture has "
            f"{tuple(size)}: the two must agree"
        )
    # pycocotools leaves memory as it was where the runs end before the picture does.
    try:
        counts = decompress(counts) if isinstance(counts, str | bytes) else counts
        return fill_runs(counts, size)
    except (ValueError, TypeError, OverflowError) as error:
        raise UserError(f"the run lengths of {where} are damaged: {error}") from error


def decompress(text: str | bytes) -> list[int]:
    """The run lengths that COCO's text stands for.

    A character holds five bits, the lowest ones first, and whether more follow. From the fourth
    number on, what is stored is the difference to the number two places before.

    Raises:
        ValueError: the text ends within a number, or holds another character.
    """
    data = text.encode("ascii") if isinstance(text, str) else text
    counts, value, shift = [], 0, 0
    for byte in data:
        bits = byte - 48
        if not 0 <= bits < 64 or shift > MOST_BITS:
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
        raise ValueError("they end within a number")
    return counts


def fill_runs(counts: Sequence[int], size: tuple[int, int]) -> np.ndarray:
    """Pixels outside and inside of an object in turn, column after column: (height, width) bool.

    Raises:
        ValueError: the runs do not fill the picture.
    """
    lengths = np.asarray(counts, dtype=np.int64)
    if lengths.ndim != 1 or (lengths < 0).any() or sum(lengths.tolist()) != size[0] * size[1]:
        raise ValueError(f"they do not fill {size[0]} x {size[1]} pixels")
    inside = np.arange(len(lengths)) % 2 == 1
    return np.repeat(inside, lengths).reshape(size[::-1]).T


def decode_masks(encoded: Sequence[dict[str, Any]]) -> Tensor:
    """The masks (N, H, W) bool that :func:`encode_masks` made N > 0 of."""
    columns_first = run_lengths.decode([dict(each) for each in encoded])
    return torch.from_numpy(columns_first).permute(2, 0, 1).bool().contiguous()


def encode_masks(masks: Tensor) -> list[dict[str, Any]]:
    """Masks (N, H, W) as N of COCO's compressed run lengths."""
    columns_first = np.asfortranarray(masks.bool().permute(1, 2, 0).cpu().numpy(), dtype=np.uint8)
    encoded = run_lengths.encode(columns_first)
    return [{"size": each["size"], "counts": each["counts"].decode("ascii")} for each in encoded]
