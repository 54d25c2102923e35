"""Map dataset dicts to inputs of a model. ``INPUT.DATASET_MAPPER_NAME`` chooses the mapper, for
evaluation ``INPUT.TEST_DATASET_MAPPER_NAME`` where that is not empty."""

import difflib
from collections.abc import Callable

from detectron2.config import CfgNode

from segcore.errors import UserError
from segcore.mappers.captions import CaptionMapper
from segcore.mappers.image_classes import ImageClassesMapper
from segcore.mappers.instance import InstanceMapper
from segcore.mappers.panoptic import PanopticMapper
from segcore.mappers.per_pixel import PerPixelMapper
from segcore.mappers.registry import MAPPER_REGISTRY
from segcore.mappers.semantic import SemanticMapper
from segcore.mappers.video import VideoMapper
from segcore.mappers.video_instance import VideoInstanceMapper
from segcore.mappers.video_semantic import VideoSemanticMapper

__all__ = [
    "MAPPER_REGISTRY",
    "CaptionMapper",
    "ImageClassesMapper",
    "InstanceMapper",
    "PanopticMapper",
    "PerPixelMapper",
    "SemanticMapper",
    "VideoInstanceMapper",
    "VideoMapper",
    "VideoSemanticMapper",
    "build_mapper",
]


def build_mapper(cfg: CfgNode, is_train: bool) -> Callable[[dict], dict]:
    """Build the mapper that the config names, for training or for testing.

    Raises:
        UserError: there is no mapper of that name.
    """
    key = "DATASET_MAPPER_NAME"
    if not is_train and cfg.INPUT.get(f"TEST_{key}"):
        key = f"TEST_{key}"
    name = cfg.INPUT[key]
    if name not in MAPPER_REGISTRY:
        known = [key for key, _ in MAPPER_REGISTRY]
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
        raise UserError(f"INPUT.{key} is {name!r}, which is unknown: use {near!r}")
    return MAPPER_REGISTRY.get(name)(cfg, is_train)
