"""Augmentations of clips. All frames get the random transform of the first one."""

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from fvcore.transforms.transform import Transform
from PIL import Image

from segcore.errors import UserError
from segcore.mappers.colours import colour_jitter

STRENGTH = 0.1  # of brightness, contrast and saturation
ANGLES = (-15, 15)  # degrees
CENTRES = (0.4, 0.6)  # of rotations, relative to the sides
BY_CLIP = "_by_clip"


def clip_augmentations(cfg: CfgNode) -> list[T.Augmentation]:
    """Return crop, resize, flip and ``INPUT.AUGMENTATIONS``, in the order of the published runs.

    Raises:
        UserError: a key asks for a transform that cannot be the same for all frames.
    """
    node = cfg.INPUT
    _check(cfg)
    style = node.MIN_SIZE_TRAIN_SAMPLING.removesuffix(BY_CLIP)
    augmentations = [T.ResizeShortestEdge(node.MIN_SIZE_TRAIN, node.MAX_SIZE_TRAIN, style)]
    if node.CROP.ENABLED:
        augmentations.insert(0, T.RandomCrop(node.CROP.TYPE, node.CROP.SIZE))
    if node.RANDOM_FLIP != "none":
        augmentations.append(T.RandomFlip())
    made = colour_jitter(node.FORMAT, STRENGTH) | {"rotation": RandomRotation()}
    return augmentations + [made[key] for key in made if key in node.AUGMENTATIONS]


def _check(cfg: CfgNode) -> None:
    node = cfg.INPUT
    for key, allowed in (
        ("MIN_SIZE_TRAIN_SAMPLING", ("choice_by_clip", "range_by_clip")),
        ("RANDOM_FLIP", ("flip_by_clip", "none")),
    ):
        if node[key] not in allowed:
            raise UserError(
                f"INPUT.{key} is {node[key]!r}, but the frames of a clip have to be treated alike: "
                f"use {' or '.join(map(repr, allowed))}"
            )
    for key in node.AUGMENTATIONS:
        if key not in ("brightness", "contrast", "saturation", "rotation"):
            raise UserError(
                f"INPUT.AUGMENTATIONS has {key!r}: there are 'brightness', 'contrast', "
                "'saturation' and 'rotation'"
            )
    if node.CROP.ENABLED and node.CROP.SINGLE_CATEGORY_MAX_AREA < 1:
        raise UserError(
            "INPUT.CROP.SINGLE_CATEGORY_MAX_AREA is for images: set it to 1.0 for videos"
        )
    if node.COLOR_AUG_SSD:
        raise UserError(
            "INPUT.COLOR_AUG_SSD is for images: set it to False for videos, whose colours "
            "INPUT.AUGMENTATIONS changes"
        )


class Rotate(Transform):
    """Rotate an image anticlockwise; it keeps its size, and pixels from outside are 0.

    Args:
        angle: in degrees.
        centre: (x, y) of the rotation.
    """

    def __init__(self, angle: float, centre: tuple[float, float]) -> None:
        super().__init__()
        self.angle, self.centre = angle, centre

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        """(h, w, 3) uint8."""
        return self._rotate(Image.fromarray(img), Image.Resampling.BILINEAR)

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        """(h, w) whole numbers, which float32 holds exactly."""
        image = Image.fromarray(segmentation.astype(np.float32))
        return self._rotate(image, Image.Resampling.NEAREST).astype(segmentation.dtype)

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """(n, 2) as x, y; y goes down."""
        cos, sin = np.cos(np.deg2rad(self.angle)), np.sin(np.deg2rad(self.angle))
        return (coords - self.centre) @ np.array([[cos, -sin], [sin, cos]]) + self.centre

    def _rotate(self, image: Image.Image, resample: Image.Resampling) -> np.ndarray:
        return np.asarray(image.rotate(self.angle, resample, center=self.centre))


class RandomRotation(T.Augmentation):
    """Draw an angle from ``ANGLES``, and a centre in the middle part of the image."""

    def get_transform(self, image: np.ndarray) -> Rotate:
        height, width = image.shape[:2]
        x, y = np.random.uniform(*CENTRES, size=2)
        return Rotate(np.random.uniform(*ANGLES), (width * x, height * y))
