"""Conversion of the arrays that the predictor accepts as an image."""

import numpy as np


def as_bgr(image: np.ndarray) -> np.ndarray:
    """Convert an array to an image of three channels, or refuse it.

    Grey images get three equal channels, an alpha channel is dropped where it is opaque everywhere,
    integers of 0..255 become uint8. Floats are taken as 0..255; those of 0..1 look black to a model
    and are refused, as are 16-bit images, whose range is unknown.

    Args:
        image: (H, W), (H, W, 1), (H, W, 3) blue first, or (H, W, 4) with alpha behind.

    Returns:
        (H, W, 3) uint8 or float.

    Raises:
        ValueError: it is none of these; the message names them.
    """
    if not isinstance(image, np.ndarray) or image.ndim not in (2, 3) or not image.size:
        shape = getattr(image, "shape", type(image).__name__)
        raise ValueError(f"an image is an array (H, W, 3), not {shape}")
    image = _in_range(image)
    channels = 1 if image.ndim == 2 else image.shape[2]
    if channels == 1:
        return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
    if channels == 4:
        if (image[..., 3] != 255).any():
            raise ValueError("the image has transparent pixels: put it on a background first")
        return image[..., :3]
    if channels != 3:
        raise ValueError(f"an image has 1, 3 or 4 channels, not {channels}: its axes are (H, W, C)")
    return image


def _in_range(image: np.ndarray) -> np.ndarray:
    """The array as uint8 or float of 0..255."""
    if image.dtype == np.uint8:
        return image
    if image.dtype.kind not in "uif":
        raise ValueError(f"an image is uint8 or float, not {image.dtype}")
    low, high = image.min(), image.max()
    if not (low >= 0 and high <= 255):  # also where one is not a number
        raise ValueError(
            f"the values of the image are {low} to {high} ({image.dtype}): scale them to 0..255"
        )
    if image.dtype.kind != "f":
        return image.astype(np.uint8)
    if 0 < high <= 1:
        raise ValueError("the image is in floats of 0 to 1: multiply them by 255")
    return image
