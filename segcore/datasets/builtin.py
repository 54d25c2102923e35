"""Register the published benchmarks, which the folder of vocabularies lists."""

import os
from pathlib import Path

from segcore.datasets.table import register_table
from segcore.vocabulary import Vocabulary, registered_names, vocabulary_table


def data_root() -> Path:
    """Return the folder that holds all data sets."""
    # As Detectron2 reads it, which leaves a ~name that it does not know as it is.
    return Path(os.path.expanduser(os.environ.get("DETECTRON2_DATASETS", "datasets")))  # noqa: PTH111


def register_builtin_datasets(root: Path) -> None:
    """Register every data set that a vocabulary lists; its files are below ``root``."""
    for name in registered_names():
        register_table(vocabulary_table(name), Vocabulary.registered(name), root)
