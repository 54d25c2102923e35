"""Augmentations of images, by the keys of ``INPUT``."""

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.projects.point_rend import ColorAugSSDTransform

IMAGE_PADDING = 128
SEGMENT_PADDING = 255  # of 8-bit maps, in which no segment has this value


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


def resized_crop(cfg: CfgNode) -> list[T.Augmentation]:
    """Resize, crop, change colours and flip, in the order of the published runs on ADE20K.

    With ``INPUT.CROP.SINGLE_CATEGORY_MAX_AREA`` below 1 the crop depends on the label map.
    """
    size = (cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING)
    augmentations = [T.ResizeShortestEdge(*size)]
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
    return augmentations + flip(cfg)


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


def flip(cfg: CfgNode) -> list[T.Augmentation]:
    """Flip by ``INPUT.RANDOM_FLIP``: "horizontal", "vertical" or "none"."""
    kind = cfg.INPUT.RANDOM_FLIP
    if kind == "none":
        return []
    return [T.RandomFlip(horizontal=kind == "horizontal", vertical=kind == "vertical")]


def test_size(cfg: CfgNode) -> list[T.Augmentation]:
    """Resize to ``INPUT.MIN_SIZE_TEST``, and no more."""
    return [T.ResizeShortestEdge(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST, "choice")]
