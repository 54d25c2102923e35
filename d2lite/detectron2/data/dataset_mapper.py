"""The default mapper from a record of a data set to the input of a model."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from detectron2._absent import absent_message
from detectron2.config import CfgNode, configurable
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T


class DatasetMapper:
    """Reads the image and the label map of a record and augments both alike.

    Boxes, masks, key points and proposals are Detectron2's own: a training record with
    "annotations" is refused, and the arguments about them are only kept as attributes.
    """

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        augmentations: Sequence[T.Augmentation | T.Transform],
        image_format: str,
        use_instance_mask: bool = False,
        use_keypoint: bool = False,
        instance_mask_format: str = "polygon",
        keypoint_hflip_indices: np.ndarray | None = None,
        precomputed_proposal_topk: int | None = None,
        recompute_boxes: bool = False,
    ) -> None:
        self.is_train, self.image_format = is_train, image_format
        self.augmentations = T.AugmentationList(augmentations)
        self.use_instance_mask, self.instance_mask_format = use_instance_mask, instance_mask_format
        self.use_keypoint, self.keypoint_hflip_indices = use_keypoint, keypoint_hflip_indices
        self.proposal_topk, self.recompute_boxes = precomputed_proposal_topk, recompute_boxes

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        augmentations = utils.build_augmentation(cfg, is_train)
        crop = cfg.INPUT.CROP
        cropped = crop.ENABLED and is_train
        if cropped:
            augmentations.insert(0, T.RandomCrop(crop.TYPE, crop.SIZE))
        if cfg.MODEL.KEYPOINT_ON or cfg.MODEL.LOAD_PROPOSALS:
            raise NotImplementedError(absent_message("DatasetMapper for key points or proposals"))
        return {
            "is_train": is_train,
            "augmentations": augmentations,
            "image_format": cfg.INPUT.FORMAT,
            "use_instance_mask": cfg.MODEL.MASK_ON,
            "instance_mask_format": cfg.INPUT.MASK_FORMAT,
            "recompute_boxes": cropped and cfg.MODEL.MASK_ON,
        }

    def __call__(self, dataset_dict: dict) -> dict:
        """Map one record, which is not changed.

        Returns:
            The record with "image", (C, H, W) uint8 in the mapper's format, and where it had a
            "sem_seg_file_name", which "sem_seg" (H, W) int64 replaces.
        """
        record = copy.deepcopy(dataset_dict)
        image = utils.read_image(record["file_name"], format=self.image_format)
        utils.check_image_size(record, image)
        label_file = record.pop("sem_seg_file_name", None)
        labels = utils.read_image(label_file, "L").squeeze(2) if label_file else None

        both = T.AugInput(image, sem_seg=labels)
        self.augmentations(both)
        record["image"] = torch.as_tensor(np.ascontiguousarray(both.image.transpose(2, 0, 1)))
        if labels is not None:
            record["sem_seg"] = torch.as_tensor(both.sem_seg.astype("long"))
        if self.is_train and "annotations" in record:
            raise NotImplementedError(absent_message("DatasetMapper for boxes and masks"))
        record.pop("annotations", None)
        return record
