"""Training batches without end; the stream can start at any iteration.

The images of a batch and their augmentation depend on the seed, the iteration and the index in the
batch alone, so that a resumed run sees the batches that an unbroken run would see.
"""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence

from detectron2.config import CfgNode
from detectron2.data import (
    DatasetCatalog,
    DatasetFromList,
    MetadataCatalog,
    get_detection_dataset_dicts,
)
from detectron2.data.samplers import TrainingSampler
from detectron2.utils import comm
from torch.utils.data import ConcatDataset, DataLoader

from segcore.errors import UserError
from segcore.images import read_header

from .pairs import PairBatches
from .samples import EndlessBatches, Sample, SeededDataset


class TrainingBatches(EndlessBatches):
    """This process's part of every batch, without end, in the order of Detectron2's sampler.

    Args:
        records: dataset dicts.
        size: images in this process's part.
        group_by_aspect: make batches of images that are all wide or all tall. Images whose
            records lack ``width`` and ``height`` have their headers read.
    """

    def __init__(self, records: Sequence[dict], size: int, *, group_by_aspect: bool) -> None:
        super().__init__(size)
        self.records, self.group_by_aspect = records, group_by_aspect
        self._is_wide = functools.cache(lambda image: is_wide(records[image]))

    def __iter__(self) -> Iterator[list[Sample]]:
        rank, processes = comm.get_rank(), comm.get_world_size()
        images = iter(TrainingSampler(len(self.records), seed=self.seed))
        for iteration, batch in itertools.islice(
            enumerate(self._batches(images)), self.start, None
        ):
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
    size = cfg.SOLVER.IMS_PER_BATCH // processes
    if any("shards" in MetadataCatalog.get(name).as_dict() for name in cfg.DATASETS.TRAIN):
        records, batches = _pairs(cfg, size)
    else:
        records = get_detection_dataset_dicts(
            cfg.DATASETS.TRAIN, filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS
        )
        records = DatasetFromList(records, copy=False)
        group_by_aspect = cfg.DATALOADER.ASPECT_RATIO_GROUPING
        batches = TrainingBatches(records, size, group_by_aspect=group_by_aspect)
    return DataLoader(
        SeededDataset(records, mapper),
        batch_sampler=batches,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        collate_fn=list,
    )


def _pairs(cfg: CfgNode, size: int) -> tuple[Sequence[dict], TrainingBatches]:
    """Return the records of data sets of which some are tar shards, and their batches.

    Images in files can be read in any order, so each of them counts as a shard of its own.
    """
    parts = [DatasetCatalog.get(name) for name in cfg.DATASETS.TRAIN]
    parts = [DatasetFromList(part) if isinstance(part, list) else part for part in parts]
    lengths = [getattr(part, "lengths", [1] * len(part)) for part in parts]
    batches = PairBatches([*itertools.chain(*lengths)], size, buffer=cfg.DATALOADER.SHUFFLE_BUFFER)
    return ConcatDataset(parts), batches
