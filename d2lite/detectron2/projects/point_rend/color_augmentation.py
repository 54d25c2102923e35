"""Random brightness, contrast, saturation and hue.

Draws come from Python's ``random``, in the same order as with Detectron2.
"""

import random
from collections.abc import Callable

import numpy as np
from fvcore.transforms.transform import Transform

_SECTORS = 180  # hues of 8-bit HSV: half degrees


def _hsv_from_bgr(img: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 blue, green, red -> hue 0..179, saturation and value 0..255."""
    blue, green, red = (img[..., c].astype(np.float64) for c in range(3))
    value = np.maximum(np.maximum(blue, green), red)
    spread = value - np.minimum(np.minimum(blue, green), red)
    divisor = np.where(spread == 0, 1.0, spread)
    hue = np.select(
        [value == red, value == green],
        [(green - blue) / divisor, 2.0 + (blue - red) / divisor],
        4.0 + (red - green) / divisor,
    )
    hue = np.where(spread == 0, 0.0, hue * 30.0)  # six sectors of 30 half degrees
    saturation = 255.0 * spread / np.where(value == 0, 1.0, value)
    hsv = np.stack([np.rint(hue) % _SECTORS, np.rint(saturation), value], axis=-1)
    return hsv.astype(np.uint8)


def _bgr_from_hsv(img: np.ndarray) -> np.ndarray:
    """Undo :func:`_hsv_from_bgr`, to rounding."""
    hue, saturation, value = (img[..., c].astype(np.float64) for c in range(3))
    saturation = saturation / 255.0

    def channel(offset: float) -> np.ndarray:
        # Distance along the colour circle, in sectors: how much of the value is taken away.
        position = (offset + hue / 30.0) % 6.0
        away = np.clip(np.minimum(position, 4.0 - position), 0.0, 1.0)
        return value * (1.0 - saturation * away)

    bgr = np.stack([channel(1.0), channel(3.0), channel(5.0)], axis=-1)
    return np.rint(bgr).astype(np.uint8)


class ColorAugSSDTransform(Transform):
    """Distort the colours of a picture as SSD does; labels and points stay.

    It draws anew each time it is applied. The result is uint8.

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
        """Scale and shift grey levels, cut to 0..255."""
        return np.clip(img.astype(np.float32) * alpha + beta, 0, 255).astype(np.uint8)

    def brightness(self, img: np.ndarray) -> np.ndarray:
        """Add the same to all pixels, in half of the calls."""
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
        """Turn the colour circle, in half of the calls."""
        if not random.randrange(2):
            return img
        hsv = _hsv_from_bgr(img)
        shift = random.randint(-self.hue_delta, self.hue_delta)
        hsv[..., 0] = (hsv[..., 0].astype(int) + shift) % _SECTORS
        return _bgr_from_hsv(hsv)
