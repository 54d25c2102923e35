"""Training batches without end; the stream can start at any iteration.

The images of a batch and their augmentation depend on the seed, the iteration and the index in the
batch alone, so that a resumed run sees the batches that an unbroken run would see.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from detectron2.config import CfgNode
from detectron2.data import DatasetFromList, get_detection_dataset_dicts
from detectron2.data.samplers import TrainingSampler
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset, Sampler

from segcore.errors import UserError
from segcore.images import read_header

from .seeding import seed_sample


class Sample(NamedTuple):
    """An image of a batch: the seeds of its augmentation, and its index in the data set."""

    seed: int
    iteration: int
    index: int  # in the batch of all processes
    image: int


class TrainingBatches(Sampler):
    """This process's part of every batch, without end, in the order of Detectron2's sampler.

    Args:
        records: dataset dicts.
        size: images in this process's part.
        group_by_aspect: make batches of images that are all wide or all tall. Images whose
            records lack ``width`` and ``height`` have their headers read.
    """

    def __init__(self, records: Sequence[dict], size: int, *, group_by_aspect: bool) -> None:
        self.records, self.size, self.group_by_aspect = records, size, group_by_aspect
        self.seed = self.start = 0
        self._is_wide = functools.cache(lambda image: is_wide(records[image]))

    def begin(self, seed: int, iteration: int) -> None:
        """Let the next pass start at the batch of ``iteration``."""
        self.seed, self.start = seed, iteration

    def __iter__(self) -> Iterator[list[Sample]]:
        rank, processes = comm.get_rank(), comm.get_world_size()
        images = iter(TrainingSampler(len(self.records), seed=self.seed))
        for iteration, batch in islice(enumerate(self._batches(images)), self.start, None):
            yield [
                Sample(self.seed, iteration, rank + processes * index, image)
                for index, image in enumerate(batch)
            ]

    def _batches(self, images: Iterator[int]) -> Iterator[list[int]]:
        group_by_aspect = self.group_by_aspect and self.size > 1
        waiting = {True: [], False: []}
        for image in images:
            group = waiting[group_by_aspect and self._is_wide(image)]
            group.append(image)
            if len(group) == self.size:
                yield group[:]
                group.clear()


class SeededDataset(Dataset):
    """Mapped records; every sample seeds the random numbers of its augmentation."""

    def __init__(self, records: Sequence[dict], mapper: Callable[[dict], dict]) -> None:
        self.records, self.mapper = records, mapper

    def __getitem__(self, sample: Sample) -> dict:
        seed_sample(sample.seed, sample.iteration, sample.index)
        return self.mapper(self.records[sample.image])


def is_wide(record: dict) -> bool:
    """Return whether the image of a dataset dict, turned upright by EXIF, is wider than tall."""
    if "width" in record and "height" in record:
        return record["width"] > record["height"]
    header = read_header(record["file_name"])
    turned = header.orientation >= 5
    return header.height > header.width if turned else header.width > header.height


def build_train_loader(cfg: CfgNode, mapper: Callable[[dict], dict]) -> DataLoader:
    """Return an endless loader of batches (lists of mapped records) of ``DATASETS.TRAIN``.

    Its ``batch_sampler`` is a :class:`TrainingBatches`.

    Raises:
        UserError: the batch size is no multiple of the number of processes, or the config asks for
            another sampler.
    """
    processes = comm.get_world_size()
    if cfg.SOLVER.IMS_PER_BATCH % processes:
        raise UserError(
            f"SOLVER.IMS_PER_BATCH is {cfg.SOLVER.IMS_PER_BATCH}, which {processes} processes "
            f"cannot divide evenly: take a multiple of {processes}"
        )
    if cfg.DATALOADER.SAMPLER_TRAIN != "TrainingSampler":
        raise UserError(
            f"DATALOADER.SAMPLER_TRAIN is {cfg.DATALOADER.SAMPLER_TRAIN!r}, "
            "but takes TrainingSampler: only its order can be resumed"
        )
    records = get_detection_dataset_dicts(
        cfg.DATASETS.TRAIN, filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS
    )
    records = DatasetFromList(records, copy=False)
    batches = TrainingBatches(
        records,
        cfg.SOLVER.IMS_PER_BATCH // processes,
        group_by_aspect=cfg.DATALOADER.ASPECT_RATIO_GROUPING,
    )
    return DataLoader(
        SeededDataset(records, mapper),
        batch_sampler=batches,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        collate_fn=list,
    )
