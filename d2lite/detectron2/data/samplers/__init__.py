"""Samplers: which items, in which order, on which process."""

from detectron2.data.samplers.distributed_sampler import InferenceSampler, TrainingSampler
