"""Map images with captions, by augmentations after which the captions are still true."""

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import transforms as T

from segcore.errors import UserError
from segcore.images import read_image
from segcore.mappers.registry import MAPPER_REGISTRY


class CaptionMapper:
    """Read an image and resize it to a square; its caption is kept.

    In training the image is cropped first. It is never flipped and its colours never change,
    because captions mention left and right, and colours.
    """

    @configurable
    def __init__(self, *, augmentations: list, image_format: str) -> None:
        """
        Args:
            augmentations: Detectron2 augmentations, applied in order.
            image_format: ``"RGB"`` or ``"BGR"``.
        """
        self.augmentations = T.AugmentationList(augmentations)
        self.image_format = image_format

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict:
        """Return the constructor's arguments: squares of ``INPUT.MIN_SIZE_TRAIN[0]`` or
        ``INPUT.MIN_SIZE_TEST``, in training after a random crop by ``INPUT.CROP``."""
        side = cfg.INPUT.MIN_SIZE_TRAIN[0] if is_train else cfg.INPUT.MIN_SIZE_TEST
        augmentations = [T.Resize((side, side))]
        if is_train and cfg.INPUT.CROP.ENABLED:
            augmentations.insert(0, T.RandomCrop(cfg.INPUT.CROP.TYPE, cfg.INPUT.CROP.SIZE))
        return {"augmentations": augmentations, "image_format": cfg.INPUT.FORMAT}

    def __call__(self, dataset_dict: dict) -> dict:
        """
        Args:
            dataset_dict: has ``file_name`` and ``caption``.

        Returns:
            all entries of ``dataset_dict``, with ``image`` (3, h, w) uint8, and ``height`` and
            ``width`` of the image as stored.

        Raises:
            UserError: the image cannot be read, or has no caption.
        """
        if "caption" not in dataset_dict:
            raise UserError(
                f"{dataset_dict['file_name']} has no caption: the mapper image_caption needs data "
                "sets of captions, such as scenes_60_train_captions"
            )
        image = read_image(dataset_dict["file_name"], self.image_format)
        height, width = image.shape[:2]
        inputs = T.AugInput(image)
        self.augmentations(inputs)
        image = torch.from_numpy(np.ascontiguousarray(inputs.image.transpose(2, 0, 1)))
        return dataset_dict | {"image": image, "height": height, "width": width}


@MAPPER_REGISTRY.register()
def image_caption(cfg: CfgNode, is_train: bool) -> CaptionMapper:
    """Build the mapper for contrastive training on image-text pairs."""
    return CaptionMapper(cfg, is_train)
