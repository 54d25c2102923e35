"""Map videos with instances: every track is an object."""

from collections.abc import Hashable

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import Metadata
from detectron2.data import transforms as T

from segcore.errors import UserError
from segcore.mappers.instance import transformed_mask
from segcore.mappers.registry import MAPPER_REGISTRY
from segcore.mappers.video import VideoMapper


class VideoInstanceMapper(VideoMapper):
    """Training reads ``annotations``; crowds are no objects."""

    @classmethod
    def check_kind(cls, metadata: Metadata, cfg: CfgNode) -> None:
        if not metadata.get("json_file"):
            raise UserError(
                f"INPUT.DATASET_MAPPER_NAME is {cfg.INPUT.DATASET_MAPPER_NAME!r}, but dataset "
                f"{metadata.name!r} has no tracks of objects: use 'vspw_video_semantic'"
            )

    def objects(
        self,
        dataset_dict: dict,
        frame: int,
        transforms: T.TransformList,
        size: tuple[int, int],
    ) -> dict[tuple[Hashable, int], np.ndarray]:
        if "frame_annotations" not in dataset_dict:
            raise UserError(
                f"video {dataset_dict['video_id']} has no tracks of objects: training needs a data "
                "set that has"
            )
        stored = (dataset_dict["height"], dataset_dict["width"])
        return {
            (entry["id"], entry["category_id"]): transformed_mask(
                entry,
                stored,
                transforms,
                size,
                f"track {entry['id']} in {dataset_dict['file_names'][frame]}",
            )
            for entry in dataset_dict["frame_annotations"][frame]
            if not entry["iscrowd"]
        }


@MAPPER_REGISTRY.register()
def ytvis_video_instance(cfg: CfgNode, is_train: bool) -> VideoInstanceMapper:
    """Build the mapper of the published runs on YouTube-VIS."""
    return VideoInstanceMapper(cfg, is_train)
