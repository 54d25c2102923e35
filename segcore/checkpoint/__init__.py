"""Checkpoints: read without executing anything, loaded strictly, written atomically."""

from .checkpointer import Checkpointer, convert_for_detectron2, open_torchscript_tower
from .readers import read_checkpoint

__all__ = ["Checkpointer", "convert_for_detectron2", "open_torchscript_tower", "read_checkpoint"]
