"""Augmentations of colours, each a blend of the image with something else.

Every draw comes from numpy's global generator.
"""

import numpy as np
from fvcore.transforms.transform import BlendTransform, Transform

from detectron2.data.transforms.augmentation import Augmentation


def _blend(other: np.ndarray | float, weight: float) -> Transform:
    """``weight`` times the image, and the rest of 1 of the other."""
    return BlendTransform(src_image=other, src_weight=1 - weight, dst_weight=weight)


def _check_rgb(augmentation: Augmentation, image: np.ndarray) -> None:
    if image.shape[-1] != 3:
        raise AssertionError(f"{augmentation} is for RGB images, not of shape {image.shape}")


class _Intensity(Augmentation):
    """Draws a factor from a range; below 1 it weakens, above 1 it strengthens."""

    def __init__(self, intensity_min: float, intensity_max: float) -> None:
        self.intensity_min, self.intensity_max = intensity_min, intensity_max

    def _draw(self) -> float:
        return np.random.uniform(self.intensity_min, self.intensity_max)


class RandomContrast(_Intensity):
    """Scale the distance of all values from their mean."""

    def get_transform(self, image: np.ndarray) -> Transform:
        return _blend(image.mean(), self._draw())


class RandomBrightness(_Intensity):
    """Scale all values."""

    def get_transform(self, image: np.ndarray) -> Transform:
        return _blend(0, self._draw())


class RandomSaturation(_Intensity):
    """Scale the distance of every pixel of an RGB image from its grey level."""

    def get_transform(self, image: np.ndarray) -> Transform:
        _check_rgb(self, image)
        weight = self._draw()
        return _blend(image.dot([0.299, 0.587, 0.114])[:, :, np.newaxis], weight)


class RandomLighting(Augmentation):
    """Shift the colours of an RGB image along the principal components of ImageNet's.

    Source: Krizhevsky et al., "ImageNet Classification with Deep Convolutional Neural Networks",
    NIPS 2012, section 4.1.

    Args:
        scale: standard deviation of the weights of the components.
    """

    def __init__(self, scale: float) -> None:
        self.scale = scale
        self.eigen_vecs = np.array(
            [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
        )
        self.eigen_vals = np.array([0.2175, 0.0188, 0.0045])

    def get_transform(self, image: np.ndarray) -> Transform:
        _check_rgb(self, image)
        weights = np.random.normal(scale=self.scale, size=3)
        shift = self.eigen_vecs.dot(weights * self.eigen_vals)
        return BlendTransform(src_image=shift, src_weight=1.0, dst_weight=1.0)
