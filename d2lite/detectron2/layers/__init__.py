"""Layers with built-in normalisation and activation."""

from detectron2.layers.batch_norm import FrozenBatchNorm2d, get_norm
from detectron2.layers.blocks import CNNBlockBase
from detectron2.layers.shape_spec import ShapeSpec
from detectron2.layers.wrappers import Conv2d, cat
