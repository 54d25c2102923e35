"""Data sets by name, in Detectron2's ``DatasetCatalog`` and ``MetadataCatalog``.

Importing this package registers the benchmarks of ``segcore/vocabularies`` under the
folder that the environment variable ``DETECTRON2_DATASETS`` names (default ``datasets``). Nothing
is read from the disk until a data set is asked for.
"""

from segcore.datasets.builtin import data_root, register_builtin_datasets
from segcore.datasets.captions import register_caption_dataset
from segcore.datasets.own import register_own_datasets
from segcore.datasets.semantic import (
    check_registered,
    register_semantic_dataset,
    semantic_metadata,
)

__all__ = [
    "check_registered",
    "data_root",
    "register_builtin_datasets",
    "register_caption_dataset",
    "register_own_datasets",
    "register_semantic_dataset",
    "semantic_metadata",
]

register_builtin_datasets(data_root())
