"""UPerNet's decoder: pyramid pooling of the coarsest map, then a feature pyramid.

Source: Xiao et al., "Unified Perceptual Parsing for Scene Understanding", ECCV 2018.

Shapes: B images, (h, w) the finest of the maps, C channels of the decoder.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import ConvNorm, Norm


class UPerNet(nn.Module):
    """
    Attributes:
        channels: C.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int = 512,
        *,
        pool_scales: Sequence[int] = (1, 2, 3, 6),
        norm: Norm = nn.BatchNorm2d,
        activation: Callable[[], nn.Module] = nn.ReLU,
        align_corners: bool = False,
    ) -> None:
        """
        Args:
            in_channels: of the maps, the finest first.
            channels: C.
            pool_scales: sides of the grids that the coarsest map is averaged to.
            norm, activation: of all convolutions, see :class:`ConvNorm`.
            align_corners: resize maps with aligned corners.
        """
        super().__init__()
        self.channels = channels
        self.pool_scales = tuple(pool_scales)
        self.align_corners = align_corners
        options = {"norm": norm, "activation": activation}
        *finer, coarsest = in_channels
        self.pools = nn.ModuleList(ConvNorm(coarsest, channels, **options) for _ in pool_scales)
        width = coarsest + len(self.pool_scales) * channels
        self.bottleneck = ConvNorm(width, channels, 3, **options)
        self.lateral = nn.ModuleList(ConvNorm(width, channels, **options) for width in finer)
        self.smooth = nn.ModuleList(ConvNorm(channels, channels, 3, **options) for _ in finer)
        self.fusion = ConvNorm(len(in_channels) * channels, channels, 3, **options)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps (B, D, h', w'), the finest first -> (B, C, h, w)."""
        *finer, coarsest = maps
        levels = [conv(x) for conv, x in zip(self.lateral, finer, strict=True)]
        levels.append(self._pool(coarsest))
        for index in range(len(finer), 0, -1):
            levels[index - 1] = levels[index - 1] + self._resize(levels[index], levels[index - 1])
        levels[:-1] = [conv(x) for conv, x in zip(self.smooth, levels[:-1], strict=True)]
        return self.fusion(torch.cat([self._resize(x, levels[0]) for x in levels], dim=1))

    def _pool(self, x: Tensor) -> Tensor:
        """Add the means over grids to the coarsest map: (B, D, h', w') -> (B, C, h', w')."""
        grids = [
            self._resize(conv(F.adaptive_avg_pool2d(x, scale)), x)
            for conv, scale in zip(self.pools, self.pool_scales, strict=True)
        ]
        return self.bottleneck(torch.cat([x, *grids], dim=1))

    def _resize(self, x: Tensor, like: Tensor) -> Tensor:
        """Resize a map to the size of another one."""
        size = like.shape[-2:]
        if x.shape[-2:] == size:
            return x
        return F.interpolate(x, size, mode="bilinear", align_corners=self.align_corners)
