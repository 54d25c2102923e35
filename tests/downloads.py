"""Helpers for the tests of preparing downloads."""

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
from PIL import Image

from segcore.datasets import semantic_metadata
from segcore.datasets.builtin import data_root
from segcore.datasets.semantic import read_pairs
from segcore.images import read_labels


def load(name: str) -> ModuleType:
    """The module that prepares a benchmark."""
    return importlib.import_module(f"segcore.datasets.preparation.{name}")


def save(path: Path, pixels: list | np.ndarray) -> Path:
    """Write an 8-bit image or label map."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(path)
    return path


def registered_labels(name: str, root: Path) -> dict[str, np.ndarray]:
    """Return the labels by image stem, read from the folders of the registered data set.

    The folders are the registered ones, below another root.
    """
    metadata = semantic_metadata(name)
    folders = (_moved(metadata.image_root, root), _moved(metadata.sem_seg_root, root))
    records = read_pairs(name, *folders, metadata.image_suffix, metadata.label_suffix)
    assert all(Path(record["file_name"]).is_file() for record in records)
    return {
        Path(record["sem_seg_file_name"]).name.removesuffix(metadata.label_suffix): read_labels(
            record["sem_seg_file_name"]
        )
        for record in records
    }


def _moved(folder: str, root: Path) -> Path:
    return root / Path(folder).relative_to(data_root())
