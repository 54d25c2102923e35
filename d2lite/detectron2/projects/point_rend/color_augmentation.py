"""Random brightness, contrast, saturation and hue.

Draws come from Python's ``random``, in the same order as with Detectron2.
"""

import random
from collections.abc import Callable

import numpy as np
from fvcore.transforms.transform import Transform

_HUES = 180  # 8-bit HSV counts half degrees
_BITS = 12  # of the fraction in the fixed-point divisions below


def _hsv_from_bgr(img: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 blue, green, red -> hue 0..179, saturation and value 0..255.

    In fixed-point numbers, as OpenCV does it, so that the roundings agree.
    """
    blue, green, red = (img[..., c].astype(np.int64) for c in range(3))
    value = img.max(axis=-1).astype(np.int64)
    spread = value - img.min(axis=-1)

    def divide(numerator: np.ndarray, scale: float, denominator: np.ndarray) -> np.ndarray:
        factor = np.rint(scale * 2**_BITS / np.maximum(denominator, 1)).astype(np.int64)
        return (numerator * factor + 2 ** (_BITS - 1)) >> _BITS

    sixths = np.select(
        [value == red, value == green],
        [green - blue, blue - red + 2 * spread],
        red - green + 4 * spread,
    )
    hue = divide(sixths, _HUES / 6, spread)
    hue = np.where(hue < 0, hue + _HUES, hue)
    return np.stack([hue, divide(spread, 255, value), value], axis=-1).astype(np.uint8)


# Which of (value, low, falling, rising) is blue, green, red in each sixth of the colour circle.
_SIXTHS = np.array([[1, 3, 0], [1, 0, 2], [3, 0, 1], [0, 2, 1], [0, 1, 3], [2, 1, 0]])


def _bgr_from_hsv(img: np.ndarray) -> np.ndarray:
    """Undo :func:`_hsv_from_bgr`, to the nearest grey level."""
    hue, saturation, value = (img[..., c].astype(np.float32) for c in range(3))
    hue *= np.float32(6 / _HUES)
    saturation *= np.float32(1 / 255)
    sixth = np.floor(hue)
    rest = hue - sixth
    levels = (
        value,
        value * (1 - saturation),
        value * (1 - saturation * rest),
        value * (1 - saturation + saturation * rest),
    )
    chosen = _SIXTHS[sixth.astype(int) % 6]
    bgr = np.take_along_axis(np.stack(levels, axis=-1), chosen, axis=-1)
    return np.rint(bgr).astype(np.uint8)


class ColorAugSSDTransform(Transform):
    """Distort the colours of an image as SSD does; labels and points do not change.

    It samples again each time it is applied. The result is uint8.

    Args:
        img_format: "RGB" or "BGR".
        brightness_delta: largest amount added, in grey levels.
        contrast_low, contrast_high: range of the factor on all channels.
        saturation_low, saturation_high: range of the factor on the saturation.
        hue_delta: largest shift, in half degrees.
    """

    def __init__(
        self,
        img_format: str,
        brightness_delta: int = 32,
        contrast_low: float = 0.5,
        contrast_high: float = 1.5,
        saturation_low: float = 0.5,
        saturation_high: float = 1.5,
        hue_delta: int = 18,
    ) -> None:
        super().__init__()
        if img_format not in ("BGR", "RGB"):
            raise AssertionError(f"img_format is 'BGR' or 'RGB', not {img_format!r}")
        self.is_rgb = img_format == "RGB"
        self.brightness_delta, self.hue_delta = brightness_delta, hue_delta
        self.contrast_low, self.contrast_high = contrast_low, contrast_high
        self.saturation_low, self.saturation_high = saturation_low, saturation_high

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return coords

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return segmentation

    def apply_image(self, img: np.ndarray, interp: int | None = None) -> np.ndarray:
        """(H, W, 3) uint8 -> (H, W, 3) uint8."""
        if self.is_rgb:
            return self._distort(img[:, :, ::-1])[:, :, ::-1]
        return self._distort(img)

    def _distort(self, img: np.ndarray) -> np.ndarray:
        img = self.brightness(img)
        contrast_first = random.randrange(2)
        steps: list[Callable] = [self.saturation, self.hue]
        steps.insert(0 if contrast_first else 2, self.contrast)
        for step in steps:
            img = step(img)
        return img

    def convert(self, img: np.ndarray, alpha: float = 1, beta: float = 0) -> np.ndarray:
        """Scale and shift grey levels, clipped to 0..255."""
        return np.clip(img.astype(np.float32) * alpha + beta, 0, 255).astype(np.uint8)

    def brightness(self, img: np.ndarray) -> np.ndarray:
        """Add a constant to all pixels, in half of the calls."""
        if not random.randrange(2):
            return img
        return self.convert(img, beta=random.uniform(-self.brightness_delta, self.brightness_delta))

    def contrast(self, img: np.ndarray) -> np.ndarray:
        """Scale all channels, in half of the calls."""
        if not random.randrange(2):
            return img
        return self.convert(img, alpha=random.uniform(self.contrast_low, self.contrast_high))

    def saturation(self, img: np.ndarray) -> np.ndarray:
        """Scale the saturation, in half of the calls."""
        if not random.randrange(2):
            return img
        hsv = _hsv_from_bgr(img)
        factor = random.uniform(self.saturation_low, self.saturation_high)
        hsv[..., 1] = self.convert(hsv[..., 1], alpha=factor)
        return _bgr_from_hsv(hsv)

    def hue(self, img: np.ndarray) -> np.ndarray:
        """Rotate the hue, in half of the calls."""
        if not random.randrange(2):
            return img
        hsv = _hsv_from_bgr(img)
        shift = random.randint(-self.hue_delta, self.hue_delta)
        hsv[..., 0] = (hsv[..., 0].astype(int) + shift) % _HUES
        return _bgr_from_hsv(hsv)
