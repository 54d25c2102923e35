"""The base of the mappers of segmentation.

Shapes: (H, W) the image as stored, (h, w) as the model sees it, N objects.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import Metadata
from detectron2.data import transforms as T
from detectron2.structures import Instances
from torch import Tensor
from torch.nn import functional as F

from segcore.datasets import first_training_metadata, semantic_metadata, shown_classes
from segcore.errors import UserError
from segcore.images import read_image
from segcore.mappers.augmentations import IMAGE_PADDING, test_size

GROUND_TRUTH = ("sem_seg_file_name", "pan_seg_file_name", "segments_info", "annotations")


class SegmentationMapper:
    """Read an image, and in training its ground truth, as tensors.

    In training both are augmented alike and padded at the right and the bottom. In testing the
    image is only resized. Subclasses read the ground truth.

    Attributes:
        of_videos: whether dataset dicts are those of videos.
    """

    of_videos = False

    @configurable
    def __init__(
        self,
        *,
        is_train: bool,
        augmentations: Sequence[T.Augmentation],
        image_format: str,
        ignore_label: int = 255,
        num_classes: int | None = None,
        size_divisibility: int = -1,
        adds_gt_classes: bool = False,
    ) -> None:
        """
        Args:
            is_train: read ground truth, and pad.
            augmentations: Detectron2 augmentations, applied in order.
            image_format: ``"RGB"`` or ``"BGR"``.
            ignore_label: label of pixels without a class, and of the padding.
            num_classes: labels from this one on, but ``ignore_label``, are refused; None: no check.
            size_divisibility: both sides are padded to a multiple of it; -1 does not pad.
            adds_gt_classes: in testing add the classes that are present, for an oracle.
        """
        self.is_train = is_train
        self.augmentations = T.AugmentationList(augmentations)
        self.image_format = image_format
        self.ignore_label = ignore_label
        self.num_classes = num_classes
        self.size_divisibility = size_divisibility
        self.adds_gt_classes = adds_gt_classes

    @classmethod
    def from_config(
        cls,
        cfg: CfgNode,
        is_train: bool,
        augment: Callable[[CfgNode], list[T.Augmentation]],
    ) -> dict:
        """Return the constructor's arguments from a config.

        Args:
            cfg: has the options of images in ``INPUT``; the classes are those of the first
                training data set.
            is_train: for training, or for testing.
            augment: returns the augmentations of training for a config.
        """
        arguments = {"is_train": is_train, "image_format": cfg.INPUT.FORMAT}
        if not is_train:
            return arguments | {
                "augmentations": test_size(cfg),
                "ignore_label": cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
                "num_classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
                "adds_gt_classes": has_oracle(cfg),
            }
        metadata = first_training_metadata(cfg)
        cls.check_kind(metadata, cfg)
        return arguments | {
            "augmentations": augment(cfg),
            "ignore_label": cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
            "num_classes": len(metadata.get("stuff_classes", ())) or None,
            "size_divisibility": cfg.INPUT.SIZE_DIVISIBILITY,
        }

    @classmethod
    def check_kind(cls, metadata: Metadata, cfg: CfgNode) -> None:
        """Raise UserError unless a training data set has the ground truth of the subclass."""
        raise NotImplementedError

    def __call__(self, dataset_dict: dict) -> dict:
        """
        Args:
            dataset_dict: has ``file_name``, and in training ground truth.

        Returns:
            the entries of ``dataset_dict`` without its ground truth, with ``image`` (3, h, w)
            uint8, and ``height`` and ``width`` of the image as stored. In training also the
            entries of the subclass, among them ``instances`` with ``gt_classes`` (N,) int64 and
            ``gt_masks`` (N, h, w) bool; in testing for an oracle ``instances`` with ``gt_classes``
            alone.

        Raises:
            UserError: a file cannot be read, or the ground truth does not fit the image.
        """
        self.check_record(dataset_dict)
        output = {key: value for key, value in dataset_dict.items() if key not in GROUND_TRUTH}
        image = read_image(dataset_dict["file_name"], self.image_format)
        output["height"], output["width"] = image.shape[:2]
        if self.is_train:
            return output | self.augment(dataset_dict, image)
        inputs = T.AugInput(image)
        self.augmentations(inputs)
        output["image"] = to_tensor(inputs.image)
        if self.adds_gt_classes:
            shown = shown_classes(dataset_dict, self.num_classes, self.ignore_label)
            output["instances"] = Instances(
                tuple(output["image"].shape[1:]), gt_classes=torch.from_numpy(shown)
            )
        return output

    def check_record(self, dataset_dict: dict) -> None:
        """Raise UserError for a dataset dict of a video in a mapper of images, or vice versa."""
        if ("file_names" in dataset_dict) != self.of_videos:
            ours, theirs = ("videos", "images") if self.of_videos else ("images", "videos")
            raise UserError(
                f"INPUT.DATASET_MAPPER_NAME is that of a mapper of {ours}, but the data set holds "
                f"{theirs}: change one of them"
            )

    def augment(self, dataset_dict: dict, image: np.ndarray) -> dict:
        """Read the ground truth, and augment it with the image (H, W, 3).

        Returns:
            ``image``, ``instances``, and further entries of the subclass.
        """
        raise NotImplementedError

    def pad(self, tensor: Tensor, value: int) -> Tensor:
        """Pad both sides of (..., h, w) to a multiple of ``size_divisibility``."""
        if self.size_divisibility <= 0:
            return tensor
        height, width = tensor.shape[-2:]
        padding = (0, -width % self.size_divisibility, 0, -height % self.size_divisibility)
        return F.pad(tensor, padding, value=value)

    def pad_image(self, image: np.ndarray) -> Tensor:
        """Turn an image (h, w, 3) into a tensor (3, h, w), padded with grey."""
        return self.pad(to_tensor(image), IMAGE_PADDING)


def to_tensor(image: np.ndarray) -> Tensor:
    """Turn an image (h, w, 3) into a tensor (3, h, w)."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def make_instances(classes: Sequence[int] | np.ndarray, masks: Tensor) -> Instances:
    """Return N objects, possibly none, from their classes and masks (N, h, w) bool."""
    classes = torch.as_tensor(np.asarray(classes, dtype=np.int64))
    return Instances(tuple(masks.shape[1:]), gt_classes=classes, gt_masks=masks)


def masks_of_values(values: Tensor, wanted: Sequence[int] | np.ndarray) -> Tensor:
    """Return the mask of each of N values in a map (h, w) of integers from 0 on: (N, h, w) bool."""
    wanted = torch.as_tensor(np.asarray(wanted, dtype=np.int64))
    bytes_suffice = max([values.max(), *wanted]) < 256  # they are compared faster
    dtype = torch.uint8 if bytes_suffice else torch.int32
    return values.to(dtype)[None] == wanted.to(dtype)[:, None, None]


def check_size(path: str, size: tuple[int, int], dataset_dict: dict, image: np.ndarray) -> None:
    """Raise UserError unless the (height, width) of ground truth is that of its image."""
    if tuple(size) != image.shape[:2]:
        raise UserError(
            f"{path} has (height, width) {tuple(size)}, but its image "
            f"{dataset_dict['file_name']} has {image.shape[:2]}: make them fit"
        )


def has_oracle(cfg: CfgNode) -> bool:
    """Return whether the model uses classes of the ground truth (``MODEL.RANKSEG``)."""
    rankseg, former_name = cfg.MODEL.get("RANKSEG"), cfg.MODEL.get("MLSEG")
    if former_name is not None and former_name.USE_GT:
        return True
    return rankseg is not None and (rankseg.USE_GT or (rankseg.FLAG and rankseg.ORACLE))


def check_ignore_label(name: str, cfg: CfgNode) -> None:
    """Raise UserError unless a data set has label maps with the config's ignore label."""
    ignore_label = semantic_metadata(name).ignore_label
    if ignore_label != cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE:
        raise UserError(
            f"MODEL.SEM_SEG_HEAD.IGNORE_VALUE is {cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE}, but "
            f"dataset {name!r} marks such pixels with {ignore_label}: set it to that"
        )
