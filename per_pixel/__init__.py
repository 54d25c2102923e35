"""Per-pixel classification: Segmenter, DeepLabv3(+), UPerNet, with RankSeg, EncNet or ESSNet.

He et al., "RankSeg: Adaptive Pixel Classification with Image Category Ranking for Segmentation",
ECCV 2022; Jain et al., "Scaling Semantic Segmentation Beyond 1K Classes on a Single GPU", ICCV
2021. Importing the package adds its keys to the configs, registers the meta-architecture
``PerPixelSegmenter`` and its parts, the classifier of images ``Query2Label``, and the data sets of
``segcore.datasets``.
"""

# First: it silences a warning that importing Detectron2 causes.
import segcore

# isort: split
import segcore.datasets  # noqa: F401  (the data sets that configs name)

from . import builders, pixel_builders  # noqa: F401  (registers the decode heads)
from .config import DECODE_HEAD_REGISTRY, add_per_pixel_config
from .heads import DecodeHead, PixelScores
from .meta_arch import PerPixelSegmenter
from .multilabel import Query2Label

__all__ = [
    "DECODE_HEAD_REGISTRY",
    "DecodeHead",
    "PerPixelSegmenter",
    "PixelScores",
    "Query2Label",
    "add_per_pixel_config",
]
