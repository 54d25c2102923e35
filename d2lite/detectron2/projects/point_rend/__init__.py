"""The colour augmentation of PointRend; no models."""

from detectron2._absent import absent
from detectron2.projects.point_rend.color_augmentation import ColorAugSSDTransform

__all__ = ["ColorAugSSDTransform"]
__getattr__ = absent(__name__)
