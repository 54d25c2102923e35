"""Records of datasets: loaded by name, filtered, counted and joined."""

import functools
import logging
from collections import Counter
from itertools import chain

import torch.utils.data as torchdata
from tabulate import tabulate

from detectron2._absent import absent_message
from detectron2.data.catalog import DatasetCatalog, MetadataCatalog


def filter_images_with_only_crowd_annotations(dataset_dicts: list[dict]) -> list[dict]:
    """Keep the records with at least one annotation that is not a crowd."""
    kept = [r for r in dataset_dicts if any(not a.get("iscrowd", 0) for a in r["annotations"])]
    logging.getLogger(__name__).info(
        "%d images without objects other than crowds left out, %d kept",
        len(dataset_dicts) - len(kept),
        len(kept),
    )
    return kept


_log_once = functools.cache(logging.getLogger(__name__).info)  # loaders may be built often


def print_instances_class_histogram(dataset_dicts: list[dict], class_names: list[str]) -> None:
    """Log how many annotations each class has, crowds not counted.

    Raises:
        AssertionError: a ``category_id`` is no index of ``class_names``.
    """
    annotations = chain.from_iterable(record["annotations"] for record in dataset_dicts)
    counts = Counter(a["category_id"] for a in annotations if not a.get("iscrowd", 0))
    wrong = [index for index in counts if not 0 <= index < len(class_names)]
    if wrong:
        raise AssertionError(
            f"category_id {wrong[0]} is no index of the {len(class_names)} classes of the dataset"
        )
    rows = [(name, counts[index]) for index, name in enumerate(class_names)]
    table = tabulate([*rows, ("total", sum(counts.values()))], ["category", "#instances"], "pipe")
    _log_once(f"Annotations by class:\n{table}")


def check_metadata_consistency(key: str, dataset_names: list[str]) -> None:
    """Check that a metadata attribute is the same in several datasets.

    Raises:
        AttributeError: a dataset has no such metadata.
        ValueError: they differ.
    """
    first, *others = [getattr(MetadataCatalog.get(name), key) for name in dataset_names]
    for name, value in zip(dataset_names[1:], others, strict=True):
        if value != first:
            raise ValueError(f"the {key} of the datasets {dataset_names[0]} and {name} differ")


def get_detection_dataset_dicts(
    names: str | list[str],
    filter_empty: bool = True,
    min_keypoints: int = 0,
    proposal_files: list[str] | None = None,
    check_consistency: bool = True,
) -> list[dict] | torchdata.Dataset:
    """Load the records of datasets, given by one name or several, and join them.

    Args:
        names: of the datasets.
        filter_empty: where the records have "annotations", leave out those that have none but
            crowds.
        min_keypoints, proposal_files: refused here.
        check_consistency: datasets with "annotations" must agree in their ``thing_classes``, where
            all of them have some, and the annotations must be of these.

    Raises:
        ValueError: they do not agree.
        AssertionError: a dataset is empty, nothing is left, or a category is no thing class.
    """
    names = [names] if isinstance(names, str) else list(names)
    if not names:
        raise AssertionError("no data set is named: set DATASETS.TRAIN or DATASETS.TEST")
    if proposal_files or min_keypoints > 0:
        raise NotImplementedError(absent_message("Reading proposals and key points"))
    parts = [DatasetCatalog.get(name) for name in names]
    if isinstance(parts[0], torchdata.Dataset):
        return torchdata.ConcatDataset(parts) if len(parts) > 1 else parts[0]
    for name, part in zip(names, parts, strict=True):
        if not part:
            raise AssertionError(f"data set {name} is empty")
    records = [record for part in parts for record in part]
    if "annotations" in records[0]:
        records = _usable(records, names, filter_empty, check_consistency)
    return records


def _usable(
    records: list[dict], names: list[str], filter_empty: bool, check_consistency: bool
) -> list[dict]:
    """Filter and check records with "annotations"."""
    if filter_empty:
        records = filter_images_with_only_crowd_annotations(records)
    if check_consistency and all(hasattr(MetadataCatalog.get(n), "thing_classes") for n in names):
        check_metadata_consistency("thing_classes", names)
        print_instances_class_histogram(records, MetadataCatalog.get(names[0]).thing_classes)
    if not records:
        raise AssertionError(f"no image of {', '.join(names)} has an object that is no crowd")
    return records
