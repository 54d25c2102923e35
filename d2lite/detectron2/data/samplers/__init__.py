"""Which items, in which order, on which process."""

from detectron2._absent import absent
from detectron2.data.samplers.distributed_sampler import (
    InferenceSampler,
    RepeatFactorTrainingSampler,
    TrainingSampler,
)

__all__ = ["InferenceSampler", "RepeatFactorTrainingSampler", "TrainingSampler"]
__getattr__ = absent(__name__)
