"""Image and text encoders with a joint embedding space, and dense embeddings of images.

The meta-architectures see :class:`ImageTextEncoder` alone; :func:`build_encoders` chooses the class
by the name of the model.
"""

from .base import EncoderOptions, ImageTextEncoder
from .build import PUBLISHED_NAMES, build_encoders, own_tokenizer
from .clip import DenseCLIP
from .eva02 import EVA02
from .finetune import MODES, set_trainable
from .siglip import SigLIP

__all__ = [
    "EVA02",
    "MODES",
    "PUBLISHED_NAMES",
    "DenseCLIP",
    "EncoderOptions",
    "ImageTextEncoder",
    "SigLIP",
    "build_encoders",
    "own_tokenizer",
    "set_trainable",
]
