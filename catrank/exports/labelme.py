"""LabelMe's format: a JSON a image, beside it, that its window opens for corrections."""

import base64
import io
from collections.abc import Iterable
from typing import Any

import numpy as np
from PIL import Image

from catrank.exports.annotations import Annotation, unicode_text
from catrank.exports.polygons import inclusive, polygons_without_holes
from segcore.errors import UserError

VERSION = "5.5.0"  # of the format, which has masks since 5.3
SHAPES = ("polygons", "masks")


def labelme_document(
    annotations: Iterable[Annotation],
    size: tuple[int, int],
    image_path: str,
    *,
    shapes: str = "polygons",
    image: np.ndarray | None = None,
) -> dict[str, Any]:
    """Return the content of the file.

    A segment of several polygons has one ``group_id``. Points are those that LabelMe's own
    rasterisation, which fills a polygon with its border, turns into exactly the pixels.

    Args:
        annotations: of the image.
        size: (height, width).
        image_path: relative to the folder of the file.
        shapes: "polygons", without holes; or "masks", a PNG each.
        image: (H, W, 3) uint8, to put into the file; None leaves it where ``image_path`` is.

    Raises:
        UserError: there are no such shapes.
    """
    if shapes not in SHAPES:
        raise UserError(f"shapes is {shapes!r}: use {' or '.join(map(repr, SHAPES))}")
    make = _polygons if shapes == "polygons" else _mask
    listed = []
    for annotation in annotations:
        for points, more in make(annotation.mask):
            description = "" if annotation.score is None else f"score {annotation.score:.4f}"
            listed.append(
                {
                    "label": annotation.name,
                    "points": points,
                    "group_id": annotation.number,
                    "description": description,
                    "flags": {},
                    **more,
                }
            )
    return {
        "version": VERSION,
        "flags": {},
        "shapes": listed,
        "imagePath": unicode_text(image_path),
        "imageData": None if image is None else _png(Image.fromarray(image)),
        "imageHeight": size[0],
        "imageWidth": size[1],
    }


Shape = tuple[list[list[float]], dict[str, Any]]


def _polygons(mask: np.ndarray) -> list[Shape]:
    rings = [inclusive(ring) for ring in polygons_without_holes(mask)]
    more = {"shape_type": "polygon", "mask": None}
    return [([[float(x), float(y)] for x, y in ring], more) for ring in rings]


def _mask(mask: np.ndarray) -> list[Shape]:
    """The part of the mask in its box, whose corners are pixels in it."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, bottom, left, right = rows[0], rows[-1], columns[0], columns[-1]
    inside = Image.fromarray(mask[top : bottom + 1, left : right + 1])
    points = [[float(left), float(top)], [float(right), float(bottom)]]
    return [(points, {"shape_type": "mask", "mask": _png(inside)})]


def _png(image: Image.Image) -> str:
    """A PNG file in base64."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode("ascii")
