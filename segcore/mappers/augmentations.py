"""Augmentations of images, by the keys of ``INPUT``."""

from collections.abc import Sequence

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.projects.point_rend import ColorAugSSDTransform

from segcore.errors import UserError
from segcore.mappers.colours import colour_jitter

IMAGE_PADDING = 128
SEGMENT_PADDING = 255  # of 8-bit maps, in which no segment has this value
SHORT_SIDES_BEFORE_CROP = (400, 500, 600)  # in DETR


class RandomScale(T.Augmentation):
    """Resize an image, sides in proportion, to fit into a box of random scale.

    Args:
        min_scale, max_scale: bounds of the scale of the box, which is drawn uniformly.
        box: (height, width) of the box of scale 1.
    """

    def __init__(self, min_scale: float, max_scale: float, box: tuple[int, int]) -> None:
        self.min_scale, self.max_scale, self.box = min_scale, max_scale, box

    def get_transform(self, image: np.ndarray) -> T.Transform:
        size = np.array(image.shape[:2])
        scale = np.random.uniform(self.min_scale, self.max_scale)
        ratio = (scale * np.array(self.box) / size).min()
        height, width = np.maximum(np.round(ratio * size), 1).astype(int)
        return T.ResizeTransform(*map(int, size), int(height), int(width))


class RandomRatio(T.Augmentation):
    """Resize an image, sides in proportion, to a base size times a random ratio.

    This is how mmsegmentation resizes in training: the sides are rounded once, after both limits
    were multiplied and truncated.

    Args:
        short_sides: the short side is one of them at ratio 1; 0: that of the image, any long side.
        long_side: the long side is at most this at ratio 1.
        ratios: bounds of the ratio, which is drawn uniformly.
    """

    def __init__(
        self, short_sides: Sequence[int], long_side: int, ratios: tuple[float, float]
    ) -> None:
        self.short_sides, self.long_side, self.ratios = tuple(short_sides), long_side, ratios

    def get_transform(self, image: np.ndarray) -> T.Transform:
        height, width = image.shape[:2]
        short, ratio = np.random.choice(self.short_sides), np.random.uniform(*self.ratios)
        factor = ratio
        if short:
            limits = int(short * ratio), int(self.long_side * ratio)
            factor = min(limits[0] / min(height, width), limits[1] / max(height, width))
        size = [max(int(side * factor + 0.5), 1) for side in (height, width)]
        return T.ResizeTransform(height, width, *size)


class EitherOf(T.Augmentation):
    """Apply one of two lists of augmentations, each with probability 1/2."""

    def __init__(self, first: Sequence[T.Augmentation], second: Sequence[T.Augmentation]) -> None:
        self.first, self.second = T.AugmentationList(first), T.AugmentationList(second)

    def __call__(self, aug_input: T.AugInput) -> T.TransformList:
        chosen = self.first if np.random.rand() > 0.5 else self.second
        return chosen(aug_input)


def resized_crop(cfg: CfgNode) -> list[T.Augmentation]:
    """Resize, crop, change colours and flip, in the order of the published runs on ADE20K.

    With ``INPUT.CROP.SINGLE_CATEGORY_MAX_AREA`` below 1 the crop depends on the label map.

    Raises:
        UserError: a key of ``INPUT`` is out of range.
    """
    augmentations = [resize(cfg)]
    if cfg.INPUT.CROP.ENABLED:
        crop = cfg.INPUT.CROP
        augmentations.append(
            T.RandomCrop_CategoryAreaConstraint(
                crop.TYPE,
                crop.SIZE,
                crop.SINGLE_CATEGORY_MAX_AREA,
                cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
            )
        )
    if cfg.INPUT.COLOR_AUG_SSD:
        augmentations.append(ColorAugSSDTransform(img_format=cfg.INPUT.FORMAT))
    if not 0 <= cfg.INPUT.COLOR_JITTER <= 1:
        raise UserError(f"INPUT.COLOR_JITTER is {cfg.INPUT.COLOR_JITTER}; it has to be from 0 to 1")
    if cfg.INPUT.COLOR_JITTER:
        augmentations += colour_jitter(cfg.INPUT.FORMAT, cfg.INPUT.COLOR_JITTER).values()
    return augmentations + flip(cfg)


def resize(cfg: CfgNode) -> T.Augmentation:
    """Resize by ``INPUT.MIN_SIZE_TRAIN``, times a random ratio if ``INPUT.SCALE_RATIO`` has one.

    Raises:
        UserError: ``INPUT.SCALE_RATIO`` is no range of ratios.
    """
    node, ratios = cfg.INPUT, tuple(cfg.INPUT.SCALE_RATIO)
    if ratios == (1, 1):
        sampling = node.MIN_SIZE_TRAIN_SAMPLING
        return T.ResizeShortestEdge(node.MIN_SIZE_TRAIN, node.MAX_SIZE_TRAIN, sampling)
    if len(ratios) != 2 or not 0 < ratios[0] <= ratios[1]:
        raise UserError(
            f"INPUT.SCALE_RATIO is {list(ratios)}; it has to be the smallest and the largest ratio"
        )
    return RandomRatio(node.MIN_SIZE_TRAIN, node.MAX_SIZE_TRAIN, ratios)


def large_scale_jitter(cfg: CfgNode) -> list[T.Augmentation]:
    """Flip, resize by a scale from a wide range, and crop or pad to a square.

    Source: Ghiasi et al., "Simple Copy-Paste is a Strong Data Augmentation Method for Instance
    Segmentation", CVPR 2021.
    """
    square = (cfg.INPUT.IMAGE_SIZE, cfg.INPUT.IMAGE_SIZE)
    return [
        *flip(cfg),
        RandomScale(cfg.INPUT.MIN_SCALE, cfg.INPUT.MAX_SCALE, square),
        T.FixedSizeCrop(square, pad_value=IMAGE_PADDING, seg_pad_value=SEGMENT_PADDING),
    ]


def resize_or_crop(cfg: CfgNode) -> list[T.Augmentation]:
    """Flip and resize the image or, for half of the images, a crop of it.

    Such a crop is taken of the image at a short side of 400, 500 or 600 pixels. Without
    ``INPUT.CROP.ENABLED`` every image stays whole.

    Source: Carion et al., "End-to-End Object Detection with Transformers" (DETR), ECCV 2020,
    section 4; the sizes are those of its published runs.
    """
    whole = [*flip(cfg), resize(cfg)]
    if not cfg.INPUT.CROP.ENABLED:
        return whole
    crop = [
        T.ResizeShortestEdge(SHORT_SIDES_BEFORE_CROP, sample_style="choice"),
        T.RandomCrop(cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE),
    ]
    return [EitherOf(whole, [*flip(cfg), *crop, resize(cfg)])]


def flip(cfg: CfgNode) -> list[T.Augmentation]:
    """Flip by ``INPUT.RANDOM_FLIP``: "horizontal", "vertical" or "none"."""
    kind = cfg.INPUT.RANDOM_FLIP
    if kind == "none":
        return []
    return [T.RandomFlip(horizontal=kind == "horizontal", vertical=kind == "vertical")]


def test_size(cfg: CfgNode) -> list[T.Augmentation]:
    """Resize to ``INPUT.MIN_SIZE_TEST``, and no more."""
    return [T.ResizeShortestEdge(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST, "choice")]
