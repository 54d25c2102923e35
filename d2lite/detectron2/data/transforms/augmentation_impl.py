"""Augmentations: resize, crop, flip.

Every draw comes from numpy's global generator. The order and number of draws are part of the
interface: a seed gives the same images as with Detectron2.
"""

import sys
from collections.abc import Sequence

import numpy as np
from fvcore.transforms import transform as fixed
from fvcore.transforms.transform import Transform
from PIL import Image

from detectron2.data.transforms.augmentation import Augmentation
from detectron2.data.transforms.transform import ResizeTransform


class RandomFlip(Augmentation):
    """Flip with a probability, in one direction."""

    def __init__(
        self, prob: float = 0.5, *, horizontal: bool = True, vertical: bool = False
    ) -> None:
        if horizontal == vertical:
            raise ValueError("RandomFlip flips horizontally or vertically: use two for both")
        self.prob, self.horizontal, self.vertical = prob, horizontal, vertical

    def get_transform(self, image: np.ndarray) -> Transform:
        height, width = image.shape[:2]
        if self._rand_range() >= self.prob:
            return fixed.NoOpTransform()
        return fixed.HFlipTransform(width) if self.horizontal else fixed.VFlipTransform(height)


class Resize(Augmentation):
    """Resize to a fixed (height, width), or to a square of one length."""

    def __init__(self, shape: int | tuple[int, int], interp: int = Image.BILINEAR) -> None:
        self.shape = (shape, shape) if isinstance(shape, int) else tuple(shape)
        self.interp = interp

    def get_transform(self, image: np.ndarray) -> Transform:
        return ResizeTransform(*image.shape[:2], *self.shape, self.interp)


class ResizeShortestEdge(Augmentation):
    """Resize the short side to a sampled length and keep the aspect ratio.

    Args:
        short_edge_length: one length; or lengths to choose from ("choice"); or the smallest and
            the largest length ("range").
        max_size: limit of the long side.
        sample_style: "choice" or "range".
        interp: interpolation, as Pillow numbers it.
    """

    def __init__(
        self,
        short_edge_length: int | Sequence[int],
        max_size: int = sys.maxsize,
        sample_style: str = "range",
        interp: int = Image.BILINEAR,
    ) -> None:
        if sample_style not in ("range", "choice"):
            raise AssertionError(f"sample_style is 'range' or 'choice', not {sample_style!r}")
        if isinstance(short_edge_length, int):
            short_edge_length = (short_edge_length, short_edge_length)
        self.is_range = sample_style == "range"
        if self.is_range and len(short_edge_length) != 2:
            raise AssertionError(f"a range has two ends, got {short_edge_length}")
        self.short_edge_length, self.max_size = short_edge_length, max_size
        self.sample_style, self.interp = sample_style, interp

    def get_transform(self, image: np.ndarray) -> Transform:
        if self.is_range:
            low, high = self.short_edge_length
            length = np.random.randint(low, high + 1)
        else:
            length = np.random.choice(self.short_edge_length)
        if length == 0:
            return fixed.NoOpTransform()
        size = image.shape[:2]
        return ResizeTransform(
            *size, *self.get_output_shape(*size, length, self.max_size), self.interp
        )

    @staticmethod
    def get_output_shape(
        oldh: int, oldw: int, short_edge_length: int, max_size: int
    ) -> tuple[int, int]:
        """Size (height, width) after resizing; the limit acts on the sides before rounding."""
        short, long = min(oldh, oldw), max(oldh, oldw)
        target = float(short_edge_length)
        new_long = long * (target / short)
        if new_long > max_size:
            target = target * (max_size / new_long)
            new_long = float(max_size)
        new_short, rounded_long = int(target + 0.5), int(new_long + 0.5)
        return (new_short, rounded_long) if oldh < oldw else (rounded_long, new_short)


class FixedSizeCrop(Augmentation):
    """Crop at a random position to a fixed size, and pad smaller images.

    Args:
        crop_size: (height, width).
        pad: whether to pad at the right and the bottom.
        pad_value: for images.
        seg_pad_value: for label maps.
    """

    def __init__(
        self,
        crop_size: tuple[int, int],
        pad: bool = True,
        pad_value: float = 128.0,
        seg_pad_value: int = 255,
    ) -> None:
        self.crop_size, self.pad = crop_size, pad
        self.pad_value, self.seg_pad_value = pad_value, seg_pad_value

    def get_transform(self, image: np.ndarray) -> Transform:
        size, crop = np.array(image.shape[:2]), np.array(self.crop_size)
        free = np.maximum(size - crop, 0)
        # One draw serves both axes, also where nothing is cropped.
        y, x = map(int, np.round(free * np.random.uniform(0.0, 1.0)))
        (height, width), (crop_h, crop_w) = map(int, size), map(int, crop)
        cropping = fixed.CropTransform(x, y, crop_w, crop_h, width, height)
        if not self.pad:
            return fixed.TransformList([cropping])
        bottom, right = (int(p) for p in np.maximum(crop - size, 0))
        kept_h, kept_w = min(height, crop_h), min(width, crop_w)
        padding = fixed.PadTransform(
            0, 0, right, bottom, kept_w, kept_h, self.pad_value, self.seg_pad_value
        )
        return fixed.TransformList([cropping, padding])


class RandomCrop(Augmentation):
    """Crop a window of a fixed or sampled size at a random position.

    Args:
        crop_type: "relative" (fraction of the image), "relative_range" (a fraction drawn from
            ``crop_size`` to 1), "absolute" (pixels) or "absolute_range" (pixels, each side drawn
            from the smaller to the larger number). Sizes are limited to the image's.
        crop_size: two numbers, height first.
    """

    def __init__(self, crop_type: str, crop_size: Sequence[float]) -> None:
        kinds = ("relative_range", "relative", "absolute", "absolute_range")
        if crop_type not in kinds:
            raise AssertionError(f"crop_type {crop_type!r} is unknown; known: {', '.join(kinds)}")
        self.crop_type, self.crop_size = crop_type, crop_size

    def get_transform(self, image: np.ndarray) -> Transform:
        height, width = image.shape[:2]
        crop_h, crop_w = self.get_crop_size((height, width))
        if crop_h > height or crop_w > width:
            raise AssertionError(f"{self} asks for more than an image of {height}x{width}")
        y = np.random.randint(height - crop_h + 1)
        x = np.random.randint(width - crop_w + 1)
        return fixed.CropTransform(x, y, crop_w, crop_h)

    def get_crop_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """Sample the window's (height, width) for an image's."""
        if self.crop_type == "absolute":
            return tuple(map(min, self.crop_size, image_size))
        if self.crop_type == "absolute_range":
            low, high = self.crop_size
            if low > high:
                raise AssertionError(f"crop_size {self.crop_size} is no range")
            return tuple(
                np.random.randint(min(side, low), min(side, high) + 1) for side in image_size
            )
        fractions = self.crop_size
        if self.crop_type == "relative_range":
            lowest = np.asarray(fractions, dtype=np.float32)  # same rounding as Detectron2
            fractions = lowest + np.random.rand(2) * (1 - lowest)
        return tuple(int(side * f + 0.5) for side, f in zip(image_size, fractions, strict=True))


class RandomCrop_CategoryAreaConstraint(Augmentation):
    """Like :class:`RandomCrop`, sampled again while one label fills too much of the window.

    Args:
        crop_type, crop_size: see :class:`RandomCrop`.
        single_category_max_area: the largest label must hold less than this fraction of the
            labelled pixels; 1 and more switches the check off.
        ignored_category: label that counts as unlabelled.
    """

    _ATTEMPTS = 10

    def __init__(
        self,
        crop_type: str,
        crop_size: Sequence[float],
        single_category_max_area: float = 1.0,
        ignored_category: int | None = None,
    ) -> None:
        self.crop_type, self.crop_size = crop_type, crop_size
        self.single_category_max_area = single_category_max_area
        self.ignored_category = ignored_category
        self.crop_aug = RandomCrop(crop_type, crop_size)

    def get_transform(self, image: np.ndarray, sem_seg: np.ndarray) -> Transform:
        if self.single_category_max_area >= 1.0:
            return self.crop_aug.get_transform(image)
        height, width = sem_seg.shape
        for _ in range(self._ATTEMPTS):
            crop_h, crop_w = self.crop_aug.get_crop_size((height, width))
            y = np.random.randint(height - crop_h + 1)
            x = np.random.randint(width - crop_w + 1)
            if self._is_mixed(sem_seg[y : y + crop_h, x : x + crop_w]):
                break
        return fixed.CropTransform(x, y, crop_w, crop_h)

    def _is_mixed(self, window: np.ndarray) -> bool:
        labels, counts = np.unique(window, return_counts=True)
        if self.ignored_category is not None:
            counts = counts[labels != self.ignored_category]
        return len(counts) > 1 and counts.max() < counts.sum() * self.single_category_max_area
