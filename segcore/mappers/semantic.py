"""Map semantic data sets: a label map, and a mask of every class in it."""

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import Metadata
from detectron2.data import transforms as T

from segcore.errors import UserError
from segcore.images import record_class_ids
from segcore.mappers.augmentations import resized_crop
from segcore.mappers.registry import MAPPER_REGISTRY
from segcore.mappers.segmentation import (
    SegmentationMapper,
    check_ignore_label,
    check_size,
    make_instances,
    masks_of_values,
)


class SemanticMapper(SegmentationMapper):
    """Training reads ``sem_seg_file_name`` and adds ``sem_seg`` (h, w) int64; every class in it is
    one object."""

    @classmethod
    def check_kind(cls, metadata: Metadata, cfg: CfgNode) -> None:
        check_ignore_label(metadata.name, cfg)

    def augment(self, dataset_dict: dict, image: np.ndarray) -> dict:
        output = self.augment_labels(dataset_dict, image)
        labels = output["sem_seg"]
        shown = np.setdiff1d(labels.numpy(), self.ignore_label)
        return output | {"instances": make_instances(shown, masks_of_values(labels, shown))}

    def augment_labels(self, dataset_dict: dict, image: np.ndarray) -> dict:
        """Read the labels, augment them with the image (H, W, 3): ``image`` and ``sem_seg``."""
        inputs = T.AugInput(image, sem_seg=self._read_labels(dataset_dict, image))
        self.augmentations(inputs)
        labels = torch.from_numpy(inputs.sem_seg.astype(np.int64))
        return {
            "image": self.pad_image(inputs.image),
            "sem_seg": self.pad(labels, self.ignore_label),
        }

    def _read_labels(self, dataset_dict: dict, image: np.ndarray) -> np.ndarray:
        """Read labels (H, W) as float64: Detectron2 resizes floating-point labels by torch's
        nearest rule and 8-bit ones by Pillow's, and the published runs read doubles."""
        path = dataset_dict.get("sem_seg_file_name")
        if path is None:
            raise UserError(f"{dataset_dict['file_name']} has no label map: training needs one")
        labels = record_class_ids(dataset_dict, self.num_classes, self.ignore_label)
        check_size(f"the label map {path}", labels.shape, dataset_dict, image)
        return labels.astype(np.float64)


@MAPPER_REGISTRY.register()
def mask_former_semantic(cfg: CfgNode, is_train: bool) -> SemanticMapper:
    """Build the mapper of MaskFormer, Mask2Former and CAT-Seg, under their configs' name."""
    return SemanticMapper(cfg, is_train, resized_crop)
