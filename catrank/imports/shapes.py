"""Shapes of annotation tools as outlines in COCO's formats."""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from segcore.annotations.fields import is_number
from segcore.errors import UserError
from segcore.outlines import Outline, check_outline, check_polygons, encode_mask

ELLIPSE_CORNERS = 72

Points = Sequence[tuple[float, float]]
Size = tuple[int, int]  # height, width


def polygon(points: Points, size: Size, where: str) -> Outline | None:
    """Return a polygon of pixel corners; None if it has less than three.

    Raises:
        UserError: it lies far outside of the image; the message begins with ``where``.
    """
    return check_outline([[value for point in points for value in point]], size, where)


def rectangle(
    left: float, top: float, width: float, height: float, degrees: float = 0.0
) -> list[tuple[float, float]]:
    """Return the corners of a rectangle that is turned clockwise around its upper left corner."""
    corners = [(0.0, 0.0), (width, 0.0), (width, height), (0.0, height)]
    return [(left + x, top + y) for x, y in _turned(corners, degrees)]


def turned_around(points: Points, center: tuple[float, float], degrees: float) -> Points:
    """Return points that are turned clockwise around a centre."""
    x0, y0 = center
    moved = _turned([(x - x0, y - y0) for x, y in points], degrees)
    return [(x0 + x, y0 + y) for x, y in moved]


def ellipse(
    center: tuple[float, float], radii: tuple[float, float], degrees: float = 0.0
) -> Points:
    """Return an ellipse, turned clockwise, as a polygon of ``ELLIPSE_CORNERS``."""
    angles = [2 * math.pi * step / ELLIPSE_CORNERS for step in range(ELLIPSE_CORNERS)]
    ring = [(radii[0] * math.cos(angle), radii[1] * math.sin(angle)) for angle in angles]
    return [(center[0] + x, center[1] + y) for x, y in _turned(ring, degrees)]


def painted(kind: str, points: Points, size: Size, where: str) -> Outline | None:
    """Return a shape that is filled with its border, as LabelMe paints it.

    Args:
        kind: "polygon", "rectangle" (two corners) or "circle" (its centre and a point of it).
        points: through the centres of pixels, by their indices.
        size: of the image.
        where: the error message begins with it.

    Returns:
        an RLE; None if there are too few points.

    Raises:
        UserError: it lies far outside of the image.
    """
    check_polygons([[value for point in points for value in point]], size, where)
    if len(points) < (3 if kind == "polygon" else 2):
        return None
    image = Image.new("1", (size[1], size[0]))
    draw = ImageDraw.Draw(image)
    if kind == "polygon":
        draw.polygon(points, fill=1, outline=1)
    else:
        (x0, y0), (x1, y1) = points[:2]
        if kind == "rectangle":
            draw.rectangle([min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)], fill=1, outline=1)
        else:
            radius = math.hypot(x1 - x0, y1 - y0)
            draw.ellipse([x0 - radius, y0 - radius, x0 + radius, y0 + radius], fill=1, outline=1)
    return encode_mask(np.asarray(image))


def pasted(part: np.ndarray, left: int, top: int, size: Size, where: str) -> Outline:
    """Return the RLE of a mask (h, w) whose upper left pixel is at (left, top) of an image.

    Raises:
        UserError: it does not lie in the image.
    """
    height, width = part.shape
    if min(left, top) < 0 or top + height > size[0] or left + width > size[1]:
        raise UserError(
            f"{where}: a mask of {width} x {height} pixels at {left}, {top} does not fit into its "
            f"image of {size[1]} x {size[0]}"
        )
    mask = np.zeros(size, dtype=bool)
    mask[top : top + height, left : left + width] = part
    return encode_mask(mask)


def pairs(value: object, where: str) -> list[tuple[float, float]]:
    """Return a list of [x, y] as pairs of numbers.

    Raises:
        UserError: it is something else; the message begins with ``where``.
    """
    listed: list = value if isinstance(value, list) else [None]
    if not all(
        isinstance(each, list) and len(each) == 2 and all(map(is_number, each)) for each in listed
    ):
        raise UserError(f"{where} need to be pairs of numbers, [[x, y], ...]")
    return [(float(x), float(y)) for x, y in listed]


def _turned(points: Points, degrees: float) -> list[tuple[float, float]]:
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return [(cosine * x - sine * y, sine * x + cosine * y) for x, y in points]
