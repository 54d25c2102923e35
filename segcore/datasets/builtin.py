"""Register the published benchmarks, which the folder of vocabularies lists."""

import os
from pathlib import Path

from segcore.datasets.pairs import register_pair_dataset
from segcore.datasets.table import register_table
from segcore.vocabulary import Vocabulary, registered_names, vocabulary_table

# The corpora of GroupViT, as img2dataset stores them, in the folders of its release.
SHARDS = {
    "gcc3m": "gcc3m_shards/gcc-train-{000000..000436}.tar",
    "gcc12m": "gcc12m_shards/gcc-conceptual-12m-{000000..001943}.tar",
    "yfcc14m": "yfcc14m_shards/yfcc14m-{000000..001888}.tar",
    "redcaps12m": "redcap12m_shards/redcap12m-{000000..001211}.tar",
}


def data_root() -> Path:
    """Return the folder that holds all data sets."""
    # As Detectron2 reads it, which leaves a ~name that it does not know as it is.
    return Path(os.path.expanduser(os.environ.get("DETECTRON2_DATASETS", "datasets")))  # noqa: PTH111


def register_builtin_datasets(root: Path) -> None:
    """Register every data set that a vocabulary lists, and ``SHARDS``; all are below ``root``."""
    for name in registered_names():
        register_table(vocabulary_table(name), Vocabulary.registered(name), root)
    for name, pattern in SHARDS.items():
        register_pair_dataset(name, root / pattern)
