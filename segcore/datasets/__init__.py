"""Register data sets by name in Detectron2's ``DatasetCatalog`` and ``MetadataCatalog``.

Importing this package, as every family does, registers the benchmarks of ``segcore/vocabularies``
under the folder that the environment variable ``DETECTRON2_DATASETS`` names (default ``datasets``).
The files of a data set are read on its first use.
"""

from segcore.datasets.builtin import data_root, register_builtin_datasets
from segcore.datasets.captions import register_caption_dataset
from segcore.datasets.custom import register_custom_datasets
from segcore.datasets.instance import register_instance_dataset
from segcore.datasets.pairs import register_pair_dataset
from segcore.datasets.panoptic import register_panoptic_dataset
from segcore.datasets.presence import shown_classes
from segcore.datasets.registering import check_registered, first_training_metadata
from segcore.datasets.semantic import register_semantic_dataset, semantic_metadata
from segcore.datasets.tracks import register_track_dataset
from segcore.datasets.video_semantic import register_video_semantic_dataset

__all__ = [
    "check_registered",
    "data_root",
    "first_training_metadata",
    "register_builtin_datasets",
    "register_caption_dataset",
    "register_custom_datasets",
    "register_instance_dataset",
    "register_pair_dataset",
    "register_panoptic_dataset",
    "register_semantic_dataset",
    "register_track_dataset",
    "register_video_semantic_dataset",
    "semantic_metadata",
    "shown_classes",
]

register_builtin_datasets(data_root())
