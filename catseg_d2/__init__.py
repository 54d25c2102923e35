"""CAT-Seg: open-vocabulary semantic segmentation by cost aggregation.

Cho et al., "CAT-Seg: Cost Aggregation for Open-Vocabulary Semantic Segmentation", CVPR 2024.
Importing the package adds its keys to the configs, registers the meta-architectures ``CATSeg`` and
``ContrastiveCLIP``, which pre-trains the CLIP encoders of the former, and the data sets of
``segcore.datasets``.
"""

import segcore.datasets  # noqa: F401  (the data sets that configs name)

from .config import add_cat_seg_config, add_catseg_config
from .contrastive import ContrastiveCLIP
from .meta_arch import CATSeg

__all__ = ["CATSeg", "ContrastiveCLIP", "add_cat_seg_config", "add_catseg_config"]
