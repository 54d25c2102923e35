"""Parts of drawing: the canvas, masks, colours."""

import colorsys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageColor
from pycocotools import mask as rle

_LETTERS = {
    "b": "#0000ff",
    "g": "#008000",
    "r": "#ff0000",
    "c": "#00bfbf",
    "m": "#bf00bf",
    "y": "#bfbf00",
    "k": "#000000",
    "w": "#ffffff",
}
_GOLDEN = 0.61803398875
Color = str | Sequence[float]


class GenericMask:
    """The mask of an object, given as an array (H, W), polygons or COCO's RLE.

    Args:
        mask_or_polygons: one of these.
        height, width: of the image.
    """

    def __init__(self, mask_or_polygons: Any, height: int, width: int) -> None:
        self.height, self.width = height, width
        given = mask_or_polygons
        if isinstance(given, list | tuple):
            flat = [np.asarray(polygon, dtype=np.float64).ravel().tolist() for polygon in given]
            given = rle.merge(rle.frPyObjects(flat, height, width))
        if isinstance(given, dict):
            if isinstance(given["counts"], list):
                given = rle.frPyObjects(given, height, width)
            given = rle.decode(given)
        self.mask = as_array(given).astype(np.uint8)
        if self.mask.shape != (height, width):
            raise AssertionError(
                f"a mask of (height, width) {self.mask.shape} is not of the image, {height, width}"
            )

    def area(self) -> int:
        """Pixels."""
        return int(self.mask.sum())

    def bbox(self) -> np.ndarray:
        """x0, y0, x1, y1; zeros for an empty mask."""
        rows, columns = (np.flatnonzero(self.mask.any(axis=axis)) for axis in (1, 0))
        if not len(rows):
            return np.zeros(4)
        return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=np.float64)


class VisImage:
    """An image that is drawn on.

    Args:
        img: (H, W, 3), 0..255.
        scale: sides of the output, in those of the image.
    """

    def __init__(self, img: np.ndarray, scale: float = 1.0) -> None:
        self.scale = scale
        self.height, self.width = img.shape[:2]
        self.reset_image(img)

    def reset_image(self, img: np.ndarray) -> None:
        """Replace the image by another one of the same size."""
        self.img = img
        size = max(round(self.width * self.scale), 1), max(round(self.height * self.scale), 1)
        canvas = Image.fromarray(np.ascontiguousarray(img).clip(0, 255).astype(np.uint8))
        self.canvas = canvas if canvas.size == size else canvas.resize(size, Image.BILINEAR)

    def paint(self, coverage: Image.Image, color: Color, alpha: float) -> None:
        """Blend a colour in where an image of mode "L" is 255."""
        self.canvas.paste(to_rgb(color), mask=coverage.point(lambda value: round(value * alpha)))

    def save(self, filepath: str) -> None:
        """Write the image to a file in the format of its suffix."""
        self.canvas.save(Path(filepath))

    def get_image(self) -> np.ndarray:
        """The image, (H, W, 3) uint8, RGB."""
        return np.array(self.canvas)


def to_rgb(color: Color) -> tuple[int, int, int]:
    """Convert a colour to three numbers in 0..255."""
    if isinstance(color, str):
        return ImageColor.getrgb(_LETTERS.get(color, color))[:3]
    return tuple(round(255 * min(max(float(value), 0.0), 1.0)) for value in list(color)[:3])


def distinct_color(index: int) -> tuple[float, float, float]:
    """Return the colour of the object of an index; consecutive ones have distant hues."""
    return colorsys.hsv_to_rgb(index * _GOLDEN % 1.0, 0.75, 0.95)


def as_array(values: Any) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)


def lighter(color: Color) -> tuple[float, ...]:
    """Return the colour of a text on black that labels an object of this colour."""
    return tuple(0.4 + 0.6 * value / 255 for value in to_rgb(color))
