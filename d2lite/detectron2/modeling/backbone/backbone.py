"""Base class of backbones."""

from abc import ABCMeta, abstractmethod

import torch
from torch import nn

from detectron2.layers import ShapeSpec


class Backbone(nn.Module, metaclass=ABCMeta):
    """Base of all backbones.

    A subclass sets ``_out_features``, ``_out_feature_channels`` and ``_out_feature_strides`` or
    overrides :meth:`output_shape`.
    """

    def __init__(self) -> None:
        super().__init__()

    @abstractmethod
    def forward(self) -> dict[str, torch.Tensor]:
        """Map a batch of images to feature maps by name; a subclass takes (N, C, H, W)."""

    @property
    def size_divisibility(self) -> int:
        """Height and width of the input must be multiples of this; 0 for any size."""
        return 0

    @property
    def padding_constraints(self) -> dict[str, int]:
        """Constraints for padding, see ``ImageList.from_tensors``."""
        return {}

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of every feature map."""
        channels, strides = self._out_feature_channels, self._out_feature_strides
        return {
            name: ShapeSpec(channels=channels[name], stride=strides[name])
            for name in self._out_features
        }
