"""DeepLabv3+'s decoder: atrous spatial pyramid pooling, refined by a finer map.

Source: Chen et al., "Encoder-Decoder with Atrous Separable Convolution for Semantic Image
Segmentation", ECCV 2018.

Shapes: B images, (h, w) the finer map, C channels of the decoder.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from .aspp import ASPP
from .layers import ConvNorm, Norm
from .losses import resize


class DeepLabV3Plus(nn.Module):
    """
    Attributes:
        channels: C.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int = 256,
        *,
        fine_channels: int = 48,
        dilations: Sequence[int] = (1, 6, 12, 18),
        dropout: float = 0.1,
        norm: Norm = nn.BatchNorm2d,
        activation: Callable[[], nn.Module] = nn.ReLU,
        align_corners: bool = False,
    ) -> None:
        """
        Args:
            in_channels: of the finer and of the coarser map.
            channels: C.
            fine_channels: that the finer map is projected to.
            dilations: see :class:`ASPP`.
            dropout: probability that a value behind the pooling is dropped in training.
            norm, activation: of all convolutions, see :class:`ConvNorm`.
            align_corners: resize maps with aligned corners.
        """
        super().__init__()
        self.channels, self.align_corners = channels, align_corners
        options = {"norm": norm, "activation": activation}
        fine, coarse = in_channels
        self.lateral = ConvNorm(fine, fine_channels, **options)
        self.aspp = ASPP(
            coarse, channels, dilations=dilations, projection_size=1, pool_first=False, **options
        )
        self.dropout = nn.Dropout(dropout)
        self.fusion = ConvNorm(fine_channels + channels, channels, 3, **options)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """The finer (B, D, h, w) and the coarser map (B, D', h', w') -> (B, C, h, w)."""
        fine, coarse = maps
        pooled = self.dropout(self.aspp([coarse]))
        pooled = resize(pooled, fine.shape[-2:], self.align_corners)
        return self.fusion(torch.cat([self.lateral(fine), pooled.to(fine.dtype)], dim=1))
