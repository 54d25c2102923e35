"""Deterministic transforms, and augmentations, which sample a transform."""

from fvcore.transforms.transform import *  # noqa: F403

from detectron2.data.transforms.augmentation import (
    AugInput,
    Augmentation,
    AugmentationList,
    StandardAugInput,
    TransformGen,
    apply_augmentations,
    apply_transform_gens,
)
from detectron2.data.transforms.augmentation_impl import (
    FixedSizeCrop,
    RandomCrop,
    RandomCrop_CategoryAreaConstraint,
    RandomFlip,
    Resize,
    ResizeShortestEdge,
)
from detectron2.data.transforms.transform import ResizeTransform
