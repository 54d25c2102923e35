"""Map videos with label maps: every class in a clip is an object of it."""

from collections.abc import Hashable

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import Metadata
from detectron2.data import transforms as T

from segcore.errors import UserError
from segcore.mappers.registry import MAPPER_REGISTRY
from segcore.mappers.segmentation import check_ignore_label
from segcore.mappers.video import VideoMapper
from segcore.videos import read_frame_labels


class VideoSemanticMapper(VideoMapper):
    """Training reads ``sem_seg_file_names``."""

    @classmethod
    def check_kind(cls, metadata: Metadata, cfg: CfgNode) -> None:
        check_ignore_label(metadata.name, cfg)

    def objects(
        self,
        dataset_dict: dict,
        frame: int,
        transforms: T.TransformList,
        size: tuple[int, int],
    ) -> dict[tuple[Hashable, int], np.ndarray]:
        if "sem_seg_file_names" not in dataset_dict:
            raise UserError(
                f"video {dataset_dict['video_id']} has no label maps: training needs them"
            )
        path = dataset_dict["sem_seg_file_names"][frame]
        stored = (dataset_dict["height"], dataset_dict["width"])
        labels = read_frame_labels(path, stored, self.num_classes, self.ignore_label)
        # From 1 on, so that pixels that a rotation brings in have no class; in doubles, which
        # Detectron2 resizes by torch's nearest rule, as in the published runs.
        numbers = np.where(labels == self.ignore_label, 0, labels + 1).astype(np.float64)
        numbers = transforms.apply_segmentation(numbers).astype(np.int64)
        shown = np.setdiff1d(numbers, 0) - 1
        return {(label, label): numbers == label + 1 for label in shown.tolist()}


@MAPPER_REGISTRY.register()
def vspw_video_semantic(cfg: CfgNode, is_train: bool) -> VideoSemanticMapper:
    """Build the mapper of the published runs on VSPW."""
    return VideoSemanticMapper(cfg, is_train)
