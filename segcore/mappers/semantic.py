"""Semantic segmentation: augment picture and label map together, as the published runs did."""

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import transforms as T
from detectron2.projects.point_rend import ColorAugSSDTransform
from torch.nn import functional as F

from segcore.datasets import semantic_metadata
from segcore.errors import UserError
from segcore.images import check_labels, read_image, read_labels
from segcore.mappers.registry import MAPPER_REGISTRY

IMAGE_PADDING = 128


class SemanticMapper:
    """Reads a picture, and in training its label map, and makes tensors of them.

    In training both are resized, cropped, flipped and padded at the right and the bottom; the
    picture's colours are changed. In testing the picture is resized only.
    """

    @configurable
    def __init__(
        self,
        *,
        is_train: bool,
        augmentations: list,
        image_format: str,
        ignore_label: int = 255,
        num_classes: int | None = None,
        size_divisibility: int = -1,
    ) -> None:
        """
        Args:
            is_train: read labels, and pad.
            augmentations: Detectron2 augmentations, applied in order.
            image_format: ``"RGB"`` or ``"BGR"``.
            ignore_label: label of pixels without a class, and of the padding.
            num_classes: labels from here on (but for ``ignore_label``) are refused; None: no check.
            size_divisibility: both sides are padded to a multiple of it; -1 does not pad.
        """
        self.is_train = is_train
        self.augmentations = T.AugmentationList(augmentations)
        self.image_format = image_format
        self.ignore_label = ignore_label
        self.num_classes = num_classes
        self.size_divisibility = size_divisibility

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict:
        """Arguments of the constructor from a config; classes and ignore label come from the first
        training data set."""
        arguments = {"is_train": is_train, "image_format": cfg.INPUT.FORMAT}
        if not is_train:
            size = (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)
            return arguments | {"augmentations": [T.ResizeShortestEdge(*size, "choice")]}
        if not cfg.DATASETS.TRAIN:
            raise UserError("DATASETS.TRAIN is empty: name the data set to train on")
        name = cfg.DATASETS.TRAIN[0]
        metadata = semantic_metadata(name)
        if metadata.ignore_label != cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE:
            raise UserError(
                f"MODEL.SEM_SEG_HEAD.IGNORE_VALUE is {cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE}, but "
                f"dataset {name!r} marks such pixels with {metadata.ignore_label}: set it to that"
            )
        return arguments | {
            "augmentations": training_augmentations(cfg, metadata.ignore_label),
            "ignore_label": metadata.ignore_label,
            "num_classes": len(metadata.stuff_classes),
            "size_divisibility": cfg.INPUT.SIZE_DIVISIBILITY,
        }

    def __call__(self, dataset_dict: dict) -> dict:
        """
        Args:
            dataset_dict: has ``file_name``, and in training ``sem_seg_file_name``.

        Returns:
            the other entries of ``dataset_dict``, with ``image`` (3, h, w) uint8, ``height`` and
            ``width`` of the picture as stored, and in training ``sem_seg`` (h, w) int64.

        Raises:
            UserError: a file cannot be read, or the label map does not fit the picture.
        """
        output = {key: value for key, value in dataset_dict.items() if key != "sem_seg_file_name"}
        image = read_image(dataset_dict["file_name"], self.image_format)
        output["height"], output["width"] = image.shape[:2]
        labels = self._read_labels(dataset_dict, image) if self.is_train else None
        inputs = T.AugInput(image, sem_seg=labels)
        self.augmentations(inputs)
        image = torch.from_numpy(np.ascontiguousarray(inputs.image.transpose(2, 0, 1)))
        if not self.is_train:
            return output | {"image": image}
        labels = torch.from_numpy(inputs.sem_seg.astype(np.int64))
        return output | {
            "image": self._pad(image, IMAGE_PADDING),
            "sem_seg": self._pad(labels, self.ignore_label),
        }

    def _read_labels(self, dataset_dict: dict, image: np.ndarray) -> np.ndarray:
        """(H, W) float64. Detectron2 resizes floating-point labels by torch's nearest rule and
        8-bit ones by Pillow's; the published runs read doubles."""
        path = dataset_dict.get("sem_seg_file_name")
        if path is None:
            raise UserError(f"{dataset_dict['file_name']} has no label map: training needs one")
        labels = read_labels(path)
        if labels.shape != image.shape[:2]:
            raise UserError(
                f"the label map {path} has (height, width) {labels.shape}, but its picture "
                f"{dataset_dict['file_name']} has {image.shape[:2]}: make them fit"
            )
        if self.num_classes is not None:
            check_labels(labels, self.num_classes, self.ignore_label, path)
        return labels.astype(np.float64)

    def _pad(self, tensor: torch.Tensor, value: int) -> torch.Tensor:
        """(..., h, w) -> both sides a multiple of ``size_divisibility``."""
        if self.size_divisibility <= 0:
            return tensor
        height, width = tensor.shape[-2:]
        padding = (0, -width % self.size_divisibility, 0, -height % self.size_divisibility)
        return F.pad(tensor, padding, value=value)


def training_augmentations(cfg: CfgNode, ignore_label: int) -> list:
    """Resize, crop, colours, flip, in the published order."""
    size = (cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING)
    augmentations = [T.ResizeShortestEdge(*size)]
    if cfg.INPUT.CROP.ENABLED:
        crop = cfg.INPUT.CROP
        augmentations.append(
            T.RandomCrop_CategoryAreaConstraint(
                crop.TYPE, crop.SIZE, crop.SINGLE_CATEGORY_MAX_AREA, ignore_label
            )
        )
    if cfg.INPUT.COLOR_AUG_SSD:
        augmentations.append(ColorAugSSDTransform(img_format=cfg.INPUT.FORMAT))
    return [*augmentations, T.RandomFlip()]


@MAPPER_REGISTRY.register()
def mask_former_semantic(cfg: CfgNode, is_train: bool) -> SemanticMapper:
    """The mapper of MaskFormer, Mask2Former and CAT-Seg under the name that their configs use."""
    return SemanticMapper(cfg, is_train)
