"""Image and text encoders with a joint embedding space, and dense embeddings of images.

The meta-architectures see :class:`ImageTextEncoder` alone; :func:`build_encoders` chooses the class
by the name of the model.
"""

from .base import ImageTextEncoder
from .build import build_encoders
from .clip import PUBLISHED_NAMES, DenseCLIP, split_fused_attention
from .finetune import MODES, set_trainable

__all__ = [
    "MODES",
    "PUBLISHED_NAMES",
    "DenseCLIP",
    "ImageTextEncoder",
    "build_encoders",
    "set_trainable",
    "split_fused_attention",
]
