"""Convert decoded images to 8-bit RGB, or return the stored integers.

Conversion goes block by block into the result, which is upright: it takes the memory of the decoded
image and of the result.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from segcore.errors import UserError, printable

BLOCK = 1 << 18  # pixels that are converted at a time
DARK_BITS = 14  # 16-bit images whose values need no more are nearly black

logger = logging.getLogger(__name__)


class Samples(NamedTuple):
    """How the samples of a file are stored, as far as Pillow's mode does not say.

    Attributes:
        stored_bits: bits of a stored sample.
        bits: significant bits of a sample, as the file says; the others are zero.
        maximum: the largest value, if it is no power of 2 minus 1 (PGM, PPM).
        zero_is_white: as in scans of paper.
        left_out: number of bands beyond colour, which are not read.
        opaque: ignore the opacity that Pillow finds (the last band of its mode, or a colour).
    """

    stored_bits: int = 8
    bits: int = 8
    maximum: int | None = None
    zero_is_white: bool = False
    left_out: int = 0
    opaque: bool = False


def is_16_bit_grey(mode: str) -> bool:
    """Return whether a pixel of Pillow's ``mode`` is one integer of more than 8 bits."""
    return mode == "I" or mode.startswith("I;16")


def rgb_pixels(
    image: Image.Image, samples: Samples, orientation: int, path: str | Path
) -> np.ndarray:
    """Convert a decoded image to RGB as image viewers show it.

    Args:
        image: decoded, in the order of its file.
        samples: how the file stores them.
        orientation: that of EXIF, 1 to 8.
        path: for messages.

    Returns:
        (H, W, 3) uint8, upright.

    Raises:
        UserError: the values have no known range.
    """
    name = printable(path)
    if image.mode == "F":
        raise UserError(f"{name} holds floating-point pixels: store the image with 8 or 16 bits")
    upright = image.size if orientation > 4 else image.size[::-1]
    pixels = np.empty((*upright, 3), dtype=np.uint8)
    stored = in_stored_order(pixels, orientation)
    if is_16_bit_grey(image.mode):
        _fill_from_16_bits(stored, image, samples, path)
    elif image.has_transparency_data and not samples.opaque:
        if not _fill_over_white(stored, image, samples):
            logger.warning("%s is transparent everywhere: its colours are read as opaque", name)
            _fill(stored, image)
    else:
        _fill(stored, image)
    if samples.left_out:
        logger.warning(
            "%s: %d band(s) beyond colour are left out, which may be infrared",
            name,
            samples.left_out,
        )
    if samples.stored_bits == 16 and not is_16_bit_grey(image.mode):
        _check_dark_colours(pixels, samples, path)
    return pixels


def stored_integers(image: Image.Image, samples: Samples, orientation: int) -> np.ndarray:
    """Return the integers (H, W) of a decoded image of one band, upright, as its file has them.

    Pillow scales samples of fewer than 8 bits; this function undoes it.
    """
    labels = np.array(image)
    native = np.uint8 if image.mode == "1" else labels.dtype.newbyteorder("=")
    labels = labels.astype(native, copy=False)
    if image.mode == "L" and samples.stored_bits < 8:
        labels //= 255 // (2**samples.stored_bits - 1)
    elif samples.maximum is not None:
        scale = 65535 if is_16_bit_grey(image.mode) else 255
        for block in blocks(*image.size):
            scaled = labels[block].astype(np.int64) * samples.maximum
            labels[block] = (scaled + scale // 2) // scale
    return np.ascontiguousarray(upright(labels, orientation))


def in_stored_order(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """View an upright array (H, W, ...) in the order of a file with that EXIF orientation.

    Pixels that are written to the view in the file's order are upright in the array. Orientations
    from 5 on give (W, H, ...).
    """
    swapped = pixels.swapaxes(0, 1) if orientation > 4 else pixels
    rows = slice(None, None, -1 if orientation in (3, 4, 6, 7) else 1)
    columns = slice(None, None, -1 if orientation in (2, 3, 7, 8) else 1)
    return swapped[rows, columns]


def upright(stored: np.ndarray, orientation: int) -> np.ndarray:
    """View an array in the order of a file with that EXIF orientation as an upright one."""
    # Quarter turns undo each other; every other orientation undoes itself.
    return in_stored_order(stored, {6: 8, 8: 6}.get(orientation, orientation))


def blocks(width: int, height: int) -> Iterator[tuple[slice, slice]]:
    """Yield rows and columns of the blocks of an image, of at most ``BLOCK`` pixels each."""
    columns = min(width, BLOCK)
    rows = BLOCK // columns
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            yield (
                slice(top, min(top + rows, height)),
                slice(left, min(left + columns, width)),
            )


def _cut(image: Image.Image, block: tuple[slice, slice]) -> Image.Image:
    rows, columns = block
    return image.crop((columns.start, rows.start, columns.stop, rows.stop))


def _fill(stored: np.ndarray, image: Image.Image) -> None:
    """Fill in the colours; ignore transparency."""
    image.info.pop("transparency", None)
    for block in blocks(*image.size):
        stored[block] = np.asarray(_cut(image, block).convert("RGB"))


def _fill_over_white(stored: np.ndarray, image: Image.Image, samples: Samples) -> bool:
    """Fill in the colours, composited over white; return whether any pixel is visible."""
    grey = image.info.get("transparency")
    if image.mode == "L" and isinstance(grey, int) and samples.stored_bits < 8:
        image.info["transparency"] = grey * (255 // (2**samples.stored_bits - 1))  # as the pixels
    seen = False
    for block in blocks(*image.size):
        colours = _cut(image, block).convert("RGBA")
        seen = seen or colours.getextrema()[3][1] > 0
        white = Image.new("RGBA", colours.size, "white")
        stored[block] = np.asarray(Image.alpha_composite(white, colours).convert("RGB"))
    return seen


def _fill_from_16_bits(
    stored: np.ndarray, image: Image.Image, samples: Samples, path: str | Path
) -> None:
    """Fill in grey values of up to 16 bits, scaled to 8."""
    extrema = [
        (values.min(), values.max())
        for values in (np.asarray(_cut(image, block)) for block in blocks(*image.size))
    ]
    least, most = min(low for low, _ in extrema), max(high for _, high in extrema)
    if least < 0 or most > 65535:
        raise UserError(f"{path} holds values outside 0..65535: store it with 8 or 16 bits")
    white = 2**samples.bits - 1 if most < 2**samples.bits <= 65536 else 65535
    transparent = None if samples.opaque else image.info.get("transparency")
    for block in blocks(*image.size):
        values = np.asarray(_cut(image, block)).astype(np.uint32)
        grey = (values * 255 + white // 2) // white
        grey = 255 - grey if samples.zero_is_white else grey
        if transparent is not None:
            grey[values == transparent] = 255
        stored[block] = grey.astype(np.uint8)[..., None]
    if white == 65535 and 0 < most < 2**DARK_BITS and not samples.zero_is_white:
        _warn_dark(path, int(most))


def _check_dark_colours(pixels: np.ndarray, samples: Samples, path: str | Path) -> None:
    """Refuse or warn of dark 16-bit colours: Pillow keeps the upper 8 bits, which may be empty."""
    most = max(int(rows.max()) for rows in pixels)
    if samples.bits < 16 and most < 2 ** (samples.bits - 8):
        raise UserError(
            f"{path} stores colours of {samples.bits} bits in the lower part of 16: scale them to "
            "16 bits, or store the image with 8"
        )
    if 0 < most < 2 ** (DARK_BITS - 8):
        _warn_dark(path, most * 256 + 255)


def _warn_dark(path: str | Path, most: int) -> None:
    logger.warning(
        "%s is nearly black: its 16-bit values go to %d of 65535. If they are of %d bits, scale "
        "them, or say so in the file (MaxSampleValue of TIFF, sBIT of PNG)",
        printable(path),
        most,
        max(most.bit_length(), 9),
    )
