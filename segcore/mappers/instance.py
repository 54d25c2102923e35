"""Map data sets of instances, whose annotated objects have polygons or RLE."""

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import Metadata
from detectron2.data import transforms as T

from segcore.errors import UserError
from segcore.mappers.augmentations import large_scale_jitter, resized_crop
from segcore.mappers.registry import MAPPER_REGISTRY
from segcore.mappers.segmentation import SegmentationMapper, make_instances
from segcore.outlines import check_polygons, decode_mask, rasterise


class InstanceMapper(SegmentationMapper):
    """Training reads ``annotations``; crowds are no objects.

    Attributes:
        drops_unseen: whether objects outside the crop are left out. The published runs on COCO did
            so; those on ADE20K kept them, with empty masks.
    """

    drops_unseen = False

    @classmethod
    def check_kind(cls, metadata: Metadata, cfg: CfgNode) -> None:
        if not metadata.get("json_file"):
            raise UserError(
                f"INPUT.DATASET_MAPPER_NAME is {cfg.INPUT.DATASET_MAPPER_NAME!r}, but dataset "
                f"{metadata.name!r} has no instances: use 'mask_former_semantic'"
            )
        if cfg.INPUT.CROP.ENABLED and cfg.INPUT.CROP.SINGLE_CATEGORY_MAX_AREA < 1:
            raise UserError(
                "INPUT.CROP.SINGLE_CATEGORY_MAX_AREA needs a label map of the whole image, which "
                f"dataset {metadata.name!r} does not have: set it to 1.0"
            )

    def augment(self, dataset_dict: dict, image: np.ndarray) -> dict:
        if "annotations" not in dataset_dict:
            raise UserError(
                f"{dataset_dict['file_name']} has no annotated instances: training needs a data "
                "set that has"
            )
        inputs = T.AugInput(image)
        transforms = self.augmentations(inputs)
        size, classes, masks = image.shape[:2], [], []
        for annotation in dataset_dict["annotations"]:
            if annotation.get("iscrowd"):
                continue
            where = f"an object of {dataset_dict['file_name']}"
            mask = transformed_mask(annotation, size, transforms, inputs.image.shape[:2], where)
            if mask.any() or not self.drops_unseen:
                classes.append(annotation["category_id"])
                masks.append(torch.from_numpy(mask))
        height, width = inputs.image.shape[:2]
        stacked = torch.stack(masks) if masks else torch.zeros(0, height, width, dtype=torch.bool)
        return {
            "image": self.pad_image(inputs.image),
            "instances": make_instances(classes, self.pad(stacked, 0)),
        }


def transformed_mask(
    annotation: dict,
    size: tuple[int, int],
    transforms: T.TransformList,
    new_size: tuple[int, int],
    where: str,
) -> np.ndarray:
    """Return the mask of an object of an image after the image's transforms.

    Args:
        annotation: has ``segmentation`` in one of COCO's formats.
        size: (H, W) of the image as stored.
        transforms: those of the image.
        new_size: (h, w) of the image after them.
        where: name of the object in messages.

    Returns:
        (h, w) bool.

    Raises:
        UserError: the outline is damaged or does not fit the image.
    """
    outline = annotation.get("segmentation")
    if isinstance(outline, list):
        polygons = check_polygons(outline, size, where)
        return rasterise([transforms.apply_coords(points) for points in polygons], new_size)
    mask = decode_mask(outline, size, where)
    return transforms.apply_segmentation(mask.astype(np.uint8)) == 1


class VisibleInstanceMapper(InstanceMapper):
    """Leave out the objects outside the crop."""

    drops_unseen = True


@MAPPER_REGISTRY.register()
def mask_former_instance(cfg: CfgNode, is_train: bool) -> InstanceMapper:
    """Build the mapper of the published runs on ADE20K instances."""
    return InstanceMapper(cfg, is_train, resized_crop)


@MAPPER_REGISTRY.register()
def coco_instance_lsj(cfg: CfgNode, is_train: bool) -> InstanceMapper:
    """Build the mapper of the published runs on COCO instances."""
    return VisibleInstanceMapper(cfg, is_train, large_scale_jitter)
