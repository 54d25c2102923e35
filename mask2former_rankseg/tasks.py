"""The tasks of a model at inference."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Tasks:
    """The tasks of ``MODEL.MASK_FORMER.TEST`` and ``TEST.DETECTIONS_PER_IMAGE``.

    Attributes:
        semantic, panoptic, instance: whether to solve that task.
        score_threshold, overlap_threshold: see :func:`.inference.panoptic`.
        num_instances: largest number of instances per image.
        whole_areas: see :func:`.inference.panoptic`.
        resize_scores: see :func:`.inference.weighted_masks`.
    """

    semantic: bool = True
    panoptic: bool = False
    instance: bool = False
    score_threshold: float = 0.8
    overlap_threshold: float = 0.8
    num_instances: int = 100
    whole_areas: bool = False
    resize_scores: bool = False
