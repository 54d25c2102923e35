"""Augmentations that draw a scale, and the one that applies another now and then.

Every draw comes from numpy's global generator, in the order of Detectron2.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from fvcore.transforms.transform import NoOpTransform, Transform
from PIL import Image

from detectron2.data.transforms.augmentation import AugInput, Augmentation, as_augmentation
from detectron2.data.transforms.transform import ExtentTransform, ResizeTransform


class RandomApply(Augmentation):
    """Apply an augmentation or a transform with a probability."""

    def __init__(self, tfm_or_aug: Augmentation | Transform, prob: float = 0.5) -> None:
        if not 0.0 <= prob <= 1.0:
            raise AssertionError(f"prob {prob} is no probability")
        self.aug, self.prob = as_augmentation(tfm_or_aug), prob

    def get_transform(self, *args: Any) -> Transform:
        applies = self._rand_range() < self.prob
        return self.aug.get_transform(*args) if applies else NoOpTransform()

    def __call__(self, aug_input: AugInput) -> Transform:
        return self.aug(aug_input) if self._rand_range() < self.prob else NoOpTransform()


class ResizeScale(Augmentation):
    """Resize to fit into a target size times a drawn scale, the aspect ratio kept.

    Args:
        min_scale, max_scale: range of the scale.
        target_height, target_width: size at scale 1.
        interp: interpolation, as Pillow numbers it.
    """

    def __init__(
        self,
        min_scale: float,
        max_scale: float,
        target_height: int,
        target_width: int,
        interp: int = Image.BILINEAR,
    ) -> None:
        self.min_scale, self.max_scale = min_scale, max_scale
        self.target_height, self.target_width, self.interp = target_height, target_width, interp

    def get_transform(self, image: np.ndarray) -> Transform:
        return self._get_resize(image, np.random.uniform(self.min_scale, self.max_scale))

    def _get_resize(self, image: np.ndarray, scale: float) -> Transform:
        height, width = image.shape[:2]
        factor = min(self.target_height * scale / height, self.target_width * scale / width)
        size = (int(np.round(side * factor)) for side in (height, width))
        return ResizeTransform(height, width, *size, self.interp)


class RandomResize(Augmentation):
    """Resize to a size drawn from a list of (height, width)."""

    def __init__(self, shape_list: Sequence[tuple[int, int]], interp: int = Image.BILINEAR) -> None:
        self.shape_list, self.interp = shape_list, interp

    def get_transform(self, image: np.ndarray) -> Transform:
        size = self.shape_list[np.random.randint(len(self.shape_list))]
        return ResizeTransform(*image.shape[:2], *size, self.interp)


class RandomExtent(Augmentation):
    """Cut out a rectangle of drawn scale and shift, black where it leaves the image.

    Args:
        scale_range: range of the rectangle's size, 1 being the image's.
        shift_range: largest shift along x and y, 1 being half of the image.
    """

    def __init__(self, scale_range: tuple[float, float], shift_range: tuple[float, float]) -> None:
        self.scale_range, self.shift_range = scale_range, shift_range

    def get_transform(self, image: np.ndarray) -> Transform:
        height, width = image.shape[:2]
        scale = np.random.uniform(*self.scale_range)
        (x0, x1), (y0, y1) = (
            self._span(side, scale, shift)
            for side, shift in zip((width, height), self.shift_range, strict=True)
        )
        return ExtentTransform((x0, y0, x1, y1), (int(y1 - y0), int(x1 - x0)))

    @staticmethod
    def _span(side: int, scale: float, shift: float) -> tuple[float, float]:
        """Begin and end along one axis."""
        moved = shift * side * (np.random.rand() - 0.5)
        return -0.5 * side * scale + moved + 0.5 * side, 0.5 * side * scale + moved + 0.5 * side
