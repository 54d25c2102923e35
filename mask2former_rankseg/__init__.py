"""MaskFormer, Mask2Former and RankSeg: segmentation with object queries and category ranking.

Cheng et al., "Per-Pixel Classification is Not All You Need for Semantic Segmentation", NeurIPS
2021; Cheng et al., "Masked-attention Mask Transformer for Universal Image Segmentation", CVPR 2022;
He et al., "RankSeg: Adaptive Pixel Classification with Image Category Ranking for Segmentation",
ECCV 2022. Importing the package adds its keys to the configs, registers the meta-architectures
``MaskFormer`` (also of Mask2Former) and ``VideoMaskFormer`` and their parts, and the data sets of
``segcore.datasets``.
"""

# First: it silences a warning that importing Detectron2 causes.
import segcore

# isort: split
import segcore.datasets  # noqa: F401  (the data sets that configs name)

from .config import (
    add_mask_former_config,
    add_maskformer2_config,
    add_maskformer2_video_config,
    add_maskformer_config,
)
from .heads import (
    TRANSFORMER_DECODER_REGISTRY,
    BasePixelDecoder,
    MaskFormerHead,
    MSDeformAttnPixelDecoder,
    MultiScaleMaskedTransformerDecoder,
    StandardTransformerDecoder,
    TransformerEncoderPixelDecoder,
    VideoMultiScaleMaskedTransformerDecoder,
)
from .meta_arch import MaskFormer
from .video import VideoMaskFormer

__all__ = [
    "TRANSFORMER_DECODER_REGISTRY",
    "BasePixelDecoder",
    "MSDeformAttnPixelDecoder",
    "MaskFormer",
    "MaskFormerHead",
    "MultiScaleMaskedTransformerDecoder",
    "StandardTransformerDecoder",
    "TransformerEncoderPixelDecoder",
    "VideoMaskFormer",
    "VideoMultiScaleMaskedTransformerDecoder",
    "add_mask_former_config",
    "add_maskformer2_config",
    "add_maskformer2_video_config",
    "add_maskformer_config",
]
