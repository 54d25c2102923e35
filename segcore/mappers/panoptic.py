"""Map panoptic data sets: every segment of a panoptic PNG is an object."""

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import Metadata
from detectron2.data import transforms as T

from segcore.annotations.panoptic_png import Segments, decode_ids, encode_ids, segments_of_record
from segcore.errors import UserError
from segcore.mappers.augmentations import large_scale_jitter, resize_or_crop, resized_crop
from segcore.mappers.registry import MAPPER_REGISTRY
from segcore.mappers.segmentation import (
    SegmentationMapper,
    check_ignore_label,
    check_size,
    make_instances,
    masks_of_values,
)


class PanopticMapper(SegmentationMapper):
    """Training reads ``pan_seg_file_name`` and ``segments_info`` and adds ``sem_seg`` (h, w) int64,
    the classes of the segments.

    Crowds are no objects, though they have a label. A segment outside the crop is kept with an
    empty mask, as in the published runs.
    """

    @classmethod
    def check_kind(cls, metadata: Metadata, cfg: CfgNode) -> None:
        check_ignore_label(metadata.name, cfg)
        if not metadata.get("panoptic_json"):
            raise UserError(
                f"INPUT.DATASET_MAPPER_NAME is {cfg.INPUT.DATASET_MAPPER_NAME!r}, but dataset "
                f"{metadata.name!r} has no segments: use 'mask_former_semantic'"
            )

    def augment(self, dataset_dict: dict, image: np.ndarray) -> dict:
        segments = segments_of_record(dataset_dict)
        check_size(segments.source, segments.ids.shape, dataset_dict, image)
        index = segments.index()
        classes = np.array([self.ignore_label, *segments.categories.values()], dtype=np.int64)
        inputs = T.AugInput(image, sem_seg=classes[index].astype(np.float64))
        transforms = self.augmentations(inputs)
        # In bytes, which Detectron2 resizes by Pillow's nearest rule, as the published runs did.
        # Padding becomes an index beyond the last one.
        index = decode_ids(transforms.apply_segmentation(encode_ids(index)))
        index[index >= len(classes)] = 0
        index = self.pad(torch.from_numpy(index), 0)
        objects = objects_of(segments)
        return {
            "image": self.pad_image(inputs.image),
            "sem_seg": torch.from_numpy(classes)[index],
            "instances": make_instances(classes[objects], masks_of_values(index, objects)),
        }


def objects_of(segments: Segments) -> list[int]:
    """Return the values in ``segments.index()`` of the segments that are no crowds."""
    return [
        index
        for index, segment in enumerate(segments.categories, start=1)
        if segment not in segments.crowds
    ]


@MAPPER_REGISTRY.register()
def mask_former_panoptic(cfg: CfgNode, is_train: bool) -> PanopticMapper:
    """Build the mapper of the published runs on ADE20K panoptic."""
    return PanopticMapper(cfg, is_train, resized_crop)


@MAPPER_REGISTRY.register()
def coco_panoptic_lsj(cfg: CfgNode, is_train: bool) -> PanopticMapper:
    """Build the mapper of the published runs of Mask2Former on COCO panoptic."""
    return PanopticMapper(cfg, is_train, large_scale_jitter)


@MAPPER_REGISTRY.register()
def detr_panoptic(cfg: CfgNode, is_train: bool) -> PanopticMapper:
    """Build the mapper of the published runs of MaskFormer on COCO panoptic."""
    return PanopticMapper(cfg, is_train, resize_or_crop)
