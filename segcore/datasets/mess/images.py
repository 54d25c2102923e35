"""Read images of the downloads, and cut them into tiles."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from segcore.errors import UserError
from segcore.images import MAX_PIXELS, read_stored_colours

TILE = 1024
# Near infrared, red, green-blue: bands 8, 4 and 2 of Sentinel-2 shown as red, green and blue. Mean
# and standard deviation are those that the authors of WorldFloods give for their training images.
NUM_BANDS = 13
BANDS = (7, 3, 1)
BAND_MEANS = np.array([3981.96268494, 3418.90147615, 3758.07467509], dtype=np.float32)
BAND_DEVIATIONS = np.array([2500.47885249, 2811.78109878, 2794.09579088], dtype=np.float32)


def stored_pixels(path: Path, mode: str = "RGB") -> np.ndarray:
    """Read an image without its EXIF orientation: label maps were drawn on these pixels.

    Args:
        mode: Pillow's mode of the result, ``"RGB"`` or ``"L"`` (grey).

    Returns:
        (H, W, 3) or (H, W) uint8.

    Raises:
        UserError: the file is missing, not an image, damaged or too large.
    """
    colours = read_stored_colours(path)
    return colours if mode == "RGB" else np.array(Image.fromarray(colours).convert(mode))


def false_colours(path: Path) -> np.ndarray:
    """Read an image of Sentinel-2 with infrared as red, red as green and blue as blue.

    A band's mean plus one standard deviation becomes full brightness.

    Args:
        path: a TIFF file of 13 bands.

    Returns:
        (H, W, 3) uint8.

    Raises:
        UserError: the file cannot be read, is too large, or has other bands.
    """
    try:
        import tifffile
    except ImportError as error:
        raise UserError(
            f"reading {path} needs tifffile and imagecodecs: pip install '.[mess]'"
        ) from error
    if not path.is_file():
        raise UserError(f"no file at {path}")
    try:
        with tifffile.TiffFile(path) as file:
            bands = _bands(file.pages.first, path)
    except UserError:
        raise
    except Exception as error:  # damaged bytes raise anything; a missing imagecodecs is named
        raise UserError(f"cannot read {path}: {error}") from error
    bright = bands.astype(np.float32) / (BAND_MEANS + BAND_DEVIATIONS)
    return (bright.clip(0, 1) * 255).astype(np.uint8)


def _bands(page, path: Path) -> np.ndarray:
    """Return the ``BANDS`` (H, W, 3) of a page with interleaved or consecutive bands."""
    axis = page.axes.find("S")
    if sorted(page.axes) != ["S", "X", "Y"] or page.shape[axis] != NUM_BANDS:
        raise UserError(
            f"{path} has the axes {page.axes} of sizes {page.shape}: it needs {NUM_BANDS} bands"
        )
    if math.prod(page.shape) > NUM_BANDS * MAX_PIXELS:
        raise UserError(f"{path} has more than {MAX_PIXELS / 1e6:g} megapixels: make it smaller")
    return np.moveaxis(page.asarray(), axis, -1)[..., BANDS]


def tiles(pixels: np.ndarray, fill: int, size: int = TILE) -> Iterator[np.ndarray]:
    """Yield adjacent tiles from the top left, row by row, padded at the border.

    Args:
        pixels: (H, W, ...).
        fill: value outside of the image.

    Yields:
        (size, size, ...), of the same dtype.
    """
    for top in range(0, pixels.shape[0], size):
        for left in range(0, pixels.shape[1], size):
            window = pixels[top : top + size, left : left + size]
            tile = np.full((size, size, *pixels.shape[2:]), fill, pixels.dtype)
            tile[: window.shape[0], : window.shape[1]] = window
            yield tile


def num_tiles(height: int, width: int, size: int = TILE) -> int:
    """Return the number of :func:`tiles` of an image."""
    return math.ceil(height / size) * math.ceil(width / size)
