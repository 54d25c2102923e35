"""Decode untrusted images that are in memory, such as members of an archive."""

import io

import numpy as np
from PIL import Image

from segcore.errors import UserError, printable
from segcore.images.pixels import Samples, rgb_pixels
from segcore.images.reading import image_orientation, pillow_settings

FORMATS = ("JPEG", "PNG", "WEBP")
MAX_PIXELS = 64_000_000


def decode_image(
    data: bytes, name: str, format: str = "RGB", *, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """Return an image as image viewers show it, with 8 bits per channel.

    As :func:`segcore.images.read_image`: upright, over white, grey and 16 bits become RGB.

    Args:
        data: of a file in one of ``FORMATS``.
        name: for messages.
        format: order of the channels, ``"RGB"`` or ``"BGR"``.
        max_pixels: larger images are refused before they are decoded.

    Returns:
        (H, W, 3) uint8, contiguous and writable.

    Raises:
        UserError: it is no image, damaged or too large.
    """
    try:
        with pillow_settings():
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        if image.width * image.height > max_pixels:
            raise UserError(
                f"{printable(name)} has {image.width} x {image.height} pixels, more than the limit "
                f"of {max_pixels / 1e6:g} megapixels"
            )
        image.load()
        samples = Samples(stored_bits=16, bits=16) if image.mode.startswith("I") else Samples()
        pixels = rgb_pixels(image, samples, image_orientation(image), name)
    except UserError:
        raise
    except Exception as error:  # a damaged file makes the decoders raise nearly anything
        raise UserError(
            f"cannot read {printable(name)}: it is damaged, or not of the formats "
            f"{', '.join(FORMATS)} ({type(error).__name__}: {printable(error)})"
        ) from error
    return pixels if format == "RGB" else np.ascontiguousarray(pixels[:, :, ::-1])
