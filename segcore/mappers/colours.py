"""Augmentations of colours; labels and outlines stay as they are."""

from collections.abc import Callable

import numpy as np
from detectron2.data import transforms as T
from fvcore.transforms.transform import Transform

LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # of red, green and blue


def colour_jitter(image_format: str, strength: float) -> dict[str, T.Augmentation]:
    """Return random brightness, contrast and saturation, by these names.

    Args:
        image_format: ``"RGB"`` or ``"BGR"``.
        strength: each factor is drawn uniformly from 1 - ``strength`` to 1 + ``strength``.
    """
    factors = (1 - strength, 1 + strength)
    return {
        "brightness": RandomBlend(_black, factors),
        "contrast": RandomBlend(_mean, factors),
        "saturation": RandomBlend(_grey if image_format == "RGB" else _grey_of_bgr, factors),
    }


class Unmoved(Transform):
    """A transform that leaves every pixel where it is."""

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        return coords

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        return segmentation


class Blend(Unmoved):
    """Blend an image with one that ``make`` derives from it: weights ``factor``, 1 - ``factor``."""

    def __init__(self, factor: float, make: Callable[[np.ndarray], np.ndarray | float]) -> None:
        super().__init__()
        self.factor, self.make = factor, make

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        """(h, w, 3) uint8 -> (h, w, 3) uint8, rounded."""
        pixels = img.astype(np.float32)
        mixed = self.factor * pixels + (1 - self.factor) * self.make(pixels)
        return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)


class RandomBlend(T.Augmentation):
    """Draw the factor of a :class:`Blend` uniformly between two bounds."""

    def __init__(
        self, make: Callable[[np.ndarray], np.ndarray | float], factors: tuple[float, float]
    ) -> None:
        self.make, self.factors = make, factors

    def get_transform(self, image: np.ndarray) -> Blend:
        return Blend(np.random.uniform(*self.factors), self.make)


def _black(pixels: np.ndarray) -> float:
    return 0.0


def _mean(pixels: np.ndarray) -> float:
    return pixels.mean()


def _grey(pixels: np.ndarray) -> np.ndarray:
    return (pixels @ LUMINANCE)[..., None]


def _grey_of_bgr(pixels: np.ndarray) -> np.ndarray:
    return (pixels @ LUMINANCE[::-1])[..., None]
