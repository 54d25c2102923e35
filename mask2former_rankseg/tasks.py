"""What a model is asked for outside training."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Tasks:
    """What is predicted: ``MODEL.MASK_FORMER.TEST`` and ``TEST.DETECTIONS_PER_IMAGE``.

    Attributes:
        semantic, panoptic, instance: whether to predict that.
        score_threshold, overlap_threshold: see :func:`panoptic`.
        num_instances: at most.
    """

    semantic: bool = True
    panoptic: bool = False
    instance: bool = False
    score_threshold: float = 0.8
    overlap_threshold: float = 0.8
    num_instances: int = 100
