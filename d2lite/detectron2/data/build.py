"""From the names of data sets to loaders."""

import logging
from collections.abc import Callable
from typing import Any

import torch
import torch.utils.data as torchdata

from detectron2._absent import sentence
from detectron2.config import CfgNode, configurable
from detectron2.data.catalog import DatasetCatalog, MetadataCatalog
from detectron2.data.common import (
    AspectRatioGroupedDataset,
    DatasetFromList,
    MapDataset,
    ToIterableDataset,
)
from detectron2.data.dataset_mapper import DatasetMapper
from detectron2.data.samplers import (
    InferenceSampler,
    RepeatFactorTrainingSampler,
    TrainingSampler,
)
from detectron2.utils.comm import get_world_size
from detectron2.utils.env import seed_all_rng


def filter_images_with_only_crowd_annotations(dataset_dicts: list[dict]) -> list[dict]:
    """Drop the records without any annotation that stands for a single object."""
    kept = [
        record
        for record in dataset_dicts
        if any(a.get("iscrowd", 0) == 0 for a in record["annotations"])
    ]
    logging.getLogger(__name__).info(
        "Dropped %d of %d pictures without a single object",
        len(dataset_dicts) - len(kept),
        len(dataset_dicts),
    )
    return kept


def _check_same_classes(names: list[str]) -> None:
    """Data sets that are joined must agree on their classes."""
    first, *others = [MetadataCatalog.get(name).get("thing_classes") for name in names]
    for name, classes in zip(names[1:], others, strict=True):
        if classes != first:
            raise AssertionError(f"thing_classes of {name} are not those of {names[0]}")


def get_detection_dataset_dicts(
    names: str | list[str],
    filter_empty: bool = True,
    min_keypoints: int = 0,
    proposal_files: list[str] | None = None,
    check_consistency: bool = True,
) -> list[dict] | torchdata.Dataset:
    """Load the records of data sets and join them.

    Args:
        names: one name or several.
        filter_empty: whether to drop records whose annotations hold no single object; only where
            the first record has "annotations".
        min_keypoints: must be 0 here.
        proposal_files: must be empty here.
        check_consistency: whether joined data sets must have equal "thing_classes".
    """
    names = [names] if isinstance(names, str) else list(names)
    if not names:
        raise AssertionError("no data set is named: set DATASETS.TRAIN or DATASETS.TEST")
    if proposal_files is not None and len(proposal_files) != len(names):
        raise AssertionError(f"{len(names)} data sets but {len(proposal_files)} proposal files")
    if proposal_files or min_keypoints:
        raise NotImplementedError(sentence("Reading proposals or key points"))

    parts = [DatasetCatalog.get(name) for name in names]
    if isinstance(parts[0], torchdata.Dataset):
        return torchdata.ConcatDataset(parts) if len(parts) > 1 else parts[0]
    for name, part in zip(names, parts, strict=True):
        if not part:
            raise AssertionError(f"data set {name} is empty")
    records = [record for part in parts for record in part]
    if "annotations" in records[0]:
        if check_consistency:
            _check_same_classes(names)
        if filter_empty:
            records = filter_images_with_only_crowd_annotations(records)
    if not records:
        raise AssertionError(f"no usable picture in {', '.join(names)}")
    return records


def trivial_batch_collator(batch: list) -> list:
    """A batch stays a list."""
    return batch


def _first(batch: list) -> Any:
    return batch[0]


def worker_init_reset_seed(worker_id: int) -> None:
    """Give every worker its own numbers for numpy and random too."""
    seed_all_rng(torch.initial_seed() % 2**31 + worker_id)


def build_batch_data_loader(
    dataset: torchdata.Dataset,
    sampler: torchdata.Sampler | None,
    total_batch_size: int,
    *,
    aspect_ratio_grouping: bool = False,
    num_workers: int = 0,
    collate_fn: Callable | None = None,
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
        total_batch_size: over all processes; must divide evenly.
        aspect_ratio_grouping: whether batches hold only wide or only tall pictures.
        num_workers: worker processes of this process.
        collate_fn: makes a batch out of a list of items; by default it stays a list.
        drop_last: whether an incomplete last batch is dropped (without grouping).
        single_gpu_batch_size: batch of this process, in place of its share of the total.
        prefetch_factor: batches that every worker prepares ahead.
        persistent_workers: whether workers outlive an epoch.
        pin_memory: whether batches are put into page-locked memory.
        seed: of the workers' generators.
        **kwargs: handed to ``torch.utils.data.DataLoader``.
    """
    batch_size = single_gpu_batch_size or _share_of(total_batch_size)
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


def _share_of(total_batch_size: int) -> int:
    """This process's part of a batch."""
    world_size = get_world_size()
    if total_batch_size <= 0 or total_batch_size % world_size:
        raise AssertionError(
            f"a batch of {total_batch_size} pictures (SOLVER.IMS_PER_BATCH) cannot be shared "
            f"evenly by {world_size} processes"
        )
    return total_batch_size // world_size


def _train_sampler(cfg: CfgNode, dataset: Any) -> torchdata.Sampler | None:
    if isinstance(dataset, torchdata.IterableDataset):
        return None
    name = cfg.DATALOADER.SAMPLER_TRAIN
    if name == "TrainingSampler":
        return TrainingSampler(len(dataset))
    if name == "RepeatFactorTrainingSampler":
        return RepeatFactorTrainingSampler(
            RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
                dataset, cfg.DATALOADER.REPEAT_THRESHOLD, sqrt=cfg.DATALOADER.REPEAT_SQRT
            )
        )
    raise ValueError(
        f"DATALOADER.SAMPLER_TRAIN is {name}; known are TrainingSampler and "
        "RepeatFactorTrainingSampler"
    )


def _train_loader_from_config(
    cfg: CfgNode,
    mapper: Callable | None = None,
    *,
    dataset: Any = None,
    sampler: torchdata.Sampler | None = None,
) -> dict[str, Any]:
    if dataset is None:
        dataset = get_detection_dataset_dicts(
            cfg.DATASETS.TRAIN,
            filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
            min_keypoints=cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE
            if cfg.MODEL.KEYPOINT_ON
            else 0,
            proposal_files=cfg.DATASETS.PROPOSAL_FILES_TRAIN if cfg.MODEL.LOAD_PROPOSALS else None,
        )
    return {
        "dataset": dataset,
        "sampler": _train_sampler(cfg, dataset) if sampler is None else sampler,
        "mapper": DatasetMapper(cfg, True) if mapper is None else mapper,
        "total_batch_size": cfg.SOLVER.IMS_PER_BATCH,
        "aspect_ratio_grouping": cfg.DATALOADER.ASPECT_RATIO_GROUPING,
        "num_workers": cfg.DATALOADER.NUM_WORKERS,
    }


@configurable(from_config=_train_loader_from_config)
def build_detection_train_loader(
    dataset: Any,
    *,
    mapper: Callable | None,
    sampler: torchdata.Sampler | None = None,
    total_batch_size: int,
    aspect_ratio_grouping: bool = True,
    num_workers: int = 0,
    collate_fn: Callable | None = None,
    **kwargs: Any,
) -> Any:
    """Build an endless loader of batches, lists of mapped records.

    Call it with these arguments or with a config. ``dataset`` is a list of records or a torch data
    set, ``mapper`` turns a record into what the model gets (None keeps it). See
    :func:`build_batch_data_loader` for the rest.
    """
    if isinstance(dataset, list):
        dataset = DatasetFromList(dataset, copy=False)
    if mapper is not None:
        dataset = MapDataset(dataset, mapper)
    if sampler is None and not isinstance(dataset, torchdata.IterableDataset):
        sampler = TrainingSampler(len(dataset))
    return build_batch_data_loader(
        dataset,
        sampler,
        total_batch_size,
        aspect_ratio_grouping=aspect_ratio_grouping,
        num_workers=num_workers,
        collate_fn=collate_fn,
        **kwargs,
    )


def _test_loader_from_config(
    cfg: CfgNode, dataset_name: str | list[str], mapper: Callable | None = None
) -> dict[str, Any]:
    names = [dataset_name] if isinstance(dataset_name, str) else list(dataset_name)
    files = None
    if cfg.MODEL.LOAD_PROPOSALS:
        by_name = dict(zip(cfg.DATASETS.TEST, cfg.DATASETS.PROPOSAL_FILES_TEST, strict=True))
        files = [by_name[name] for name in names]
    dataset = get_detection_dataset_dicts(names, filter_empty=False, proposal_files=files)
    return {
        "dataset": dataset,
        "mapper": DatasetMapper(cfg, False) if mapper is None else mapper,
        "num_workers": cfg.DATALOADER.NUM_WORKERS,
        "sampler": None
        if isinstance(dataset, torchdata.IterableDataset)
        else InferenceSampler(len(dataset)),
    }


@configurable(from_config=_test_loader_from_config)
def build_detection_test_loader(
    dataset: Any,
    *,
    mapper: Callable | None,
    sampler: torchdata.Sampler | None = None,
    batch_size: int = 1,
    num_workers: int = 0,
    collate_fn: Callable | None = None,
) -> torchdata.DataLoader:
    """Build a loader that gives every record once, shared out among the processes."""
    if isinstance(dataset, list):
        dataset = DatasetFromList(dataset, copy=False)
    if mapper is not None:
        dataset = MapDataset(dataset, mapper)
    if sampler is None and not isinstance(dataset, torchdata.IterableDataset):
        sampler = InferenceSampler(len(dataset))
    return torchdata.DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        drop_last=False,
        num_workers=num_workers,
        collate_fn=collate_fn or trivial_batch_collator,
    )
