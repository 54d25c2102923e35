"""Saving and loading, safely."""

from fvcore.common.checkpoint import Checkpointer, PeriodicCheckpointer

from detectron2._absent import absent
from detectron2.checkpoint.detection_checkpoint import DetectionCheckpointer

__all__ = ["Checkpointer", "DetectionCheckpointer", "PeriodicCheckpointer"]
__getattr__ = absent(__name__)
