"""CAT-Seg: open-vocabulary semantic segmentation by cost aggregation.

Cho et al., "CAT-Seg: Cost Aggregation for Open-Vocabulary Semantic Segmentation", CVPR 2024.
Importing the package adds its keys to the configs and registers the meta-architecture ``CATSeg``.
"""

from .config import add_catseg_config
from .meta_arch import CATSeg

__all__ = ["CATSeg", "add_catseg_config"]
