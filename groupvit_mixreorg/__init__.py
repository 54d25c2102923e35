"""GroupViT and MixReorg: segmentation learned from captions alone.

Xu et al., "GroupViT: Semantic Segmentation Emerges from Text Supervision", CVPR 2022; Cai et al.,
"MixReorg: Cross-Modal Mixed Patch Reorganization is a Good Mask Learner for Open-World Semantic
Segmentation", ICCV 2023. Importing the package adds its keys to the configs, registers the
meta-architecture ``GroupViT``, and the data sets of ``segcore.datasets``.
"""

import segcore.datasets  # noqa: F401  (the data sets that configs name)

from .config import add_groupvit_config
from .meta_arch import GroupViT
from .model import GroupViTModel

__all__ = ["GroupViT", "GroupViTModel", "add_groupvit_config"]
