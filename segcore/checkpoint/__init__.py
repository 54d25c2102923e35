"""Read checkpoints without executing anything, load them strictly, write them atomically."""

from .checkpointer import Checkpointer, convert_for_detectron2, open_torchscript_clip
from .readers import read_checkpoint

__all__ = ["Checkpointer", "convert_for_detectron2", "open_torchscript_clip", "read_checkpoint"]
