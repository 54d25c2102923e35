"""Decode PGM and PPM files whose maximum value is neither 255 nor 65535.

Pillow reads them pixel by pixel in Python, and clips values beyond the maximum.
"""

import numpy as np
from PIL import Image

BLOCK = 1 << 20  # samples that are scaled at a time


def maximum(image: Image.Image) -> int | None:
    """Return the maximum value of a PGM or PPM image that is not decoded yet; None for bitmaps."""
    codec, _, _, arguments = image.tile[0]
    return arguments[1] if codec in ("ppm", "ppm_plain") else None


def decode(image: Image.Image) -> Image.Image:
    """Return the pixels of a binary file in Pillow's mode, scaled as Pillow scales them.

    Args:
        image: not decoded yet, with codec ``"ppm"``.

    Raises:
        ValueError: the file ends early, or has a value beyond the maximum.
    """
    _, _, offset, (mode, largest) = image.tile[0]
    channels = 3 if mode == "RGB" else 1
    width, height = image.size
    wide = image.mode == "I"
    pixels = np.empty(height * width * channels, dtype=np.int32 if wide else np.uint8)
    white = 65535 if wide else 255
    with open(image.filename, "rb") as file:  # noqa: PTH123  Pillow's file name is a string
        file.seek(offset)
        for start in range(0, pixels.size, BLOCK):
            part = pixels[start : start + BLOCK]
            stored = np.fromfile(file, dtype=">u2" if largest > 255 else np.uint8, count=part.size)
            if stored.size < part.size:
                raise ValueError("its data end before all of its pixels")
            if stored.max() > largest:
                raise ValueError(f"it holds the value {stored.max()}, beyond its {largest}")
            part[:] = (stored.astype(np.uint32) * white + largest // 2) // largest
    shape = (height, width) if channels == 1 else (height, width, 3)
    return Image.fromarray(pixels.reshape(shape))
