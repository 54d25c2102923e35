"""The colour augmentation of PointRend; no models."""

from detectron2.projects.point_rend.color_augmentation import ColorAugSSDTransform
