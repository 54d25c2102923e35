"""Data loaders for training and evaluation, built from a config or from data sets."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.utils.data as torchdata

from detectron2._absent import absent_message
from detectron2.config import CfgNode, configurable
from detectron2.data.common import (
    AspectRatioGroupedDataset,
    DatasetFromList,
    MapDataset,
    ToIterableDataset,
)
from detectron2.data.dataset_mapper import DatasetMapper
from detectron2.data.records import (
    filter_images_with_only_crowd_annotations as filter_images_with_only_crowd_annotations,
)
from detectron2.data.records import get_detection_dataset_dicts
from detectron2.data.records import (
    print_instances_class_histogram as print_instances_class_histogram,
)
from detectron2.data.samplers import InferenceSampler, TrainingSampler
from detectron2.utils.comm import get_world_size
from detectron2.utils.env import seed_all_rng

Mapper = Callable[[dict], Any] | None  # record -> what the model gets; None keeps the record
Collate = Callable[[list], Any] | None  # items -> batch; None keeps the list

_SAMPLERS_LEFT_OUT = (
    "RepeatFactorTrainingSampler",
    "RandomSubsetTrainingSampler",
    "WeightedTrainingSampler",
    "WeightedCategoryTrainingSampler",
)


def trivial_batch_collator(batch: list) -> list:
    """Return the batch as it is, a list."""
    return batch


def _first(batch: list) -> Any:
    return batch[0]


def worker_init_reset_seed(worker_id: int) -> None:
    """Seed numpy and random differently in every worker."""
    seed_all_rng(torch.initial_seed() % 2**31 + worker_id)


def build_batch_data_loader(
    dataset: torchdata.Dataset,
    sampler: torchdata.Sampler | None,
    total_batch_size: int,
    *,
    aspect_ratio_grouping: bool = False,
    num_workers: int = 0,
    collate_fn: Collate = None,
    drop_last: bool = True,
    single_gpu_batch_size: int | None = None,
    prefetch_factor: int = 2,
    persistent_workers: bool = False,
    pin_memory: bool = False,
    seed: int | None = None,
    **kwargs: Any,
) -> Any:
    """Build the loader of a training run.

    Args:
        dataset: with indices, or a stream (then without a sampler).
        sampler: yields this process's indices, the same in all of its workers.
        total_batch_size: over all processes; must divide evenly. 0 or None beside
            ``single_gpu_batch_size``.
        aspect_ratio_grouping: whether batches hold only wide or only tall images.
        num_workers: worker processes of this process.
        collate_fn: makes a batch out of a list of items; by default it stays a list.
        drop_last: whether an incomplete last batch is dropped (without grouping).
        single_gpu_batch_size: batch size of this process, instead of its part of the total.
        prefetch_factor: batches that every worker prepares ahead.
        persistent_workers: whether workers outlive an epoch.
        pin_memory: whether batches are put into page-locked memory.
        seed: of the workers' generators.
        **kwargs: passed to ``torch.utils.data.DataLoader``.
    """
    if single_gpu_batch_size and total_batch_size:
        raise ValueError("pass total_batch_size or single_gpu_batch_size, not both")
    batch_size = single_gpu_batch_size or _local_batch_size(total_batch_size)
    if isinstance(dataset, torchdata.IterableDataset):
        if sampler is not None:
            raise AssertionError("a data set that is a stream takes no sampler")
    else:
        # Chunks of one batch keep batches whole whatever the number of workers.
        dataset = ToIterableDataset(dataset, sampler, shard_chunk_size=batch_size)
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    options = {
        "num_workers": num_workers,
        "prefetch_factor": prefetch_factor if num_workers > 0 else None,
        "persistent_workers": persistent_workers,
        "pin_memory": pin_memory,
        "worker_init_fn": worker_init_reset_seed,
        "generator": generator,
        **kwargs,
    }
    if not aspect_ratio_grouping:
        return torchdata.DataLoader(
            dataset,
            batch_size=batch_size,
            drop_last=drop_last,
            collate_fn=collate_fn or trivial_batch_collator,
            **options,
        )
    if not drop_last:
        raise AssertionError("aspect_ratio_grouping always drops what is left at the end")
    singles = torchdata.DataLoader(dataset, collate_fn=_first, **options)
    batches = AspectRatioGroupedDataset(singles, batch_size)
    return batches if collate_fn is None else MapDataset(batches, collate_fn)


def _local_batch_size(total_batch_size: int) -> int:
    """Return the batch size of this process."""
    world_size = get_world_size()
    if total_batch_size <= 0 or total_batch_size % world_size:
        raise AssertionError(
            f"a batch of {total_batch_size} images (SOLVER.IMS_PER_BATCH) cannot be shared "
            f"evenly by {world_size} processes"
        )
    return total_batch_size // world_size


def _mapped(
    dataset: Any, mapper: Mapper, sampler: torchdata.Sampler | None, default: type
) -> tuple[torchdata.Dataset, torchdata.Sampler | None]:
    """Return a data set of mapped records, and its sampler, by default ``default``."""
    if isinstance(dataset, list):
        dataset = DatasetFromList(dataset, copy=False)
    if mapper is not None:
        dataset = MapDataset(dataset, mapper)
    if isinstance(dataset, torchdata.IterableDataset):
        if sampler is not None:
            raise AssertionError("a dataset that is a stream takes no sampler")
    elif sampler is None:
        sampler = default(len(dataset))
    return dataset, sampler


def _train_records(cfg: CfgNode, names: Sequence[str]) -> Any:
    """Load the records of the training datasets, filtered as ``cfg`` says."""
    return get_detection_dataset_dicts(
        names,
        filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
        min_keypoints=1 if cfg.MODEL.KEYPOINT_ON else 0,
        proposal_files=cfg.DATASETS.PROPOSAL_FILES_TRAIN if cfg.MODEL.LOAD_PROPOSALS else None,
    )


def _train_sampler(cfg: CfgNode, dataset: Any) -> torchdata.Sampler:
    """Build the sampler ``cfg.DATALOADER.SAMPLER_TRAIN``."""
    name = cfg.DATALOADER.SAMPLER_TRAIN
    if name in _SAMPLERS_LEFT_OUT:
        raise NotImplementedError(absent_message(f"DATALOADER.SAMPLER_TRAIN: {name}"))
    if name != "TrainingSampler":
        raise ValueError(f"DATALOADER.SAMPLER_TRAIN is {name}, but takes TrainingSampler")
    return TrainingSampler(len(dataset), seed=cfg.SEED)


def _train_loader_from_config(
    cfg: CfgNode,
    mapper: Mapper = None,
    *,
    dataset: Any = None,
    sampler: torchdata.Sampler | None = None,
) -> dict[str, Any]:
    if dataset is None:
        dataset = _train_records(cfg, cfg.DATASETS.TRAIN)
    if sampler is None and not isinstance(dataset, torchdata.IterableDataset):
        sampler = _train_sampler(cfg, dataset)
    return {
        "dataset": dataset,
        "sampler": sampler,
        "mapper": DatasetMapper(cfg, True) if mapper is None else mapper,
        "total_batch_size": cfg.SOLVER.IMS_PER_BATCH,
        "aspect_ratio_grouping": cfg.DATALOADER.ASPECT_RATIO_GROUPING,
        "num_workers": cfg.DATALOADER.NUM_WORKERS,
    }


@configurable(from_config=_train_loader_from_config)
def build_detection_train_loader(
    dataset: Any,
    *,
    mapper: Mapper,
    sampler: torchdata.Sampler | None = None,
    total_batch_size: int,
    aspect_ratio_grouping: bool = True,
    num_workers: int = 0,
    collate_fn: Collate = None,
    **kwargs: Any,
) -> Any:
    """Build an endless loader of batches, lists of mapped records.

    Call it with these arguments or with a config. ``dataset`` is a list of records or a torch data
    set, ``mapper`` turns a record into what the model gets (None keeps it). See
    :func:`build_batch_data_loader` for the rest.
    """
    dataset, sampler = _mapped(dataset, mapper, sampler, TrainingSampler)
    if not isinstance(sampler, torchdata.Sampler | None):
        raise AssertionError(f"the sampler must be a torch Sampler, not {sampler!r}")
    options = {"num_workers": num_workers, "collate_fn": collate_fn, **kwargs}
    options["aspect_ratio_grouping"] = aspect_ratio_grouping
    return build_batch_data_loader(dataset, sampler, total_batch_size, **options)


def _test_loader_from_config(
    cfg: CfgNode, dataset_name: str | list[str], mapper: Mapper = None
) -> dict[str, Any]:
    if cfg.MODEL.LOAD_PROPOSALS:
        raise NotImplementedError(absent_message("MODEL.LOAD_PROPOSALS True"))
    dataset = get_detection_dataset_dicts(dataset_name, filter_empty=False)
    return {
        "dataset": dataset,
        "mapper": DatasetMapper(cfg, False) if mapper is None else mapper,
        "num_workers": cfg.DATALOADER.NUM_WORKERS,
    }


@configurable(from_config=_test_loader_from_config)
def build_detection_test_loader(
    dataset: Any,
    *,
    mapper: Mapper,
    sampler: torchdata.Sampler | None = None,
    batch_size: int = 1,
    num_workers: int = 0,
    collate_fn: Collate = None,
) -> torchdata.DataLoader:
    """Build a loader that yields every record once, distributed over the processes."""
    dataset, sampler = _mapped(dataset, mapper, sampler, InferenceSampler)
    options = {"batch_size": batch_size, "num_workers": num_workers, "drop_last": False}
    collate_fn = collate_fn or trivial_batch_collator
    return torchdata.DataLoader(dataset, sampler=sampler, collate_fn=collate_fn, **options)
