"""Blocks of layers."""

from collections.abc import Callable

import torch
from torch import nn

from detectron2.layers.batch_norm import get_norm
from detectron2.layers.wrappers import Conv2d


class DepthwiseSeparableConv2d(nn.Module):
    """A convolution of each channel by itself, then one of 1x1 over the channels."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        padding: int = 1,
        dilation: int = 1,
        *,
        norm1: str | Callable | None = None,
        activation1: Callable | None = None,
        norm2: str | Callable | None = None,
        activation2: Callable | None = None,
    ) -> None:
        super().__init__()
        self.depthwise = Conv2d(
            in_channels,
            in_channels,
            kernel_size,
            padding=padding,
            dilation=dilation,
            groups=in_channels,
            bias=not norm1,
            norm=get_norm(norm1, in_channels),
            activation=activation1,
        )
        self.pointwise = Conv2d(
            in_channels,
            out_channels,
            1,
            bias=not norm2,
            norm=get_norm(norm2, out_channels),
            activation=activation2,
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H, W)."""
        return self.pointwise(self.depthwise(x))
