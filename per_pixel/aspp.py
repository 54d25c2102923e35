"""Atrous spatial pyramid pooling, the decoder of DeepLabv3.

Source: Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017.

Shapes: B images, D channels of the backbone's map, C of the decoder's.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from .layers import ConvNorm, Norm


class ASPP(nn.Module):
    """Convolutions of several dilations and the mean of the map, concatenated and projected.

    Attributes:
        channels: C.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int = 512,
        *,
        dilations: Sequence[int] = (1, 12, 24, 36),
        projection_size: int = 3,
        pool_first: bool = True,
        norm: Norm = nn.BatchNorm2d,
        activation: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        """
        Args:
            in_channels: D.
            channels: C.
            dilations: of the branches; 1 is a 1x1 convolution, all others are 3x3.
            projection_size: side of the last convolution's kernel: 3, or 1 in DeepLab's release.
            pool_first: the mean of the map precedes the branches in the concatenation, as in
                mmsegmentation; or it follows them, as in torchvision.
            norm, activation: of all convolutions, see :class:`ConvNorm`.
        """
        super().__init__()
        self.channels, self.pool_first = channels, pool_first
        options = {"norm": norm, "activation": activation}
        self.image_pool = ConvNorm(in_channels, channels, **options)
        self.branches = nn.ModuleList(
            ConvNorm(in_channels, channels, 1 if d == 1 else 3, dilation=d, **options)
            for d in dilations
        )
        width = (1 + len(dilations)) * channels
        self.bottleneck = ConvNorm(width, channels, projection_size, **options)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """A single map (B, D, h, w) -> (B, C, h, w)."""
        (x,) = maps
        pooled = self.image_pool(x.mean(dim=(-2, -1), keepdim=True))
        pooled = pooled.expand(-1, -1, *x.shape[-2:])
        found = [branch(x) for branch in self.branches]
        found.insert(0 if self.pool_first else len(found), pooled)
        return self.bottleneck(torch.cat(found, dim=1))
