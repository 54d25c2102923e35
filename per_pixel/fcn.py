"""A decoder of plain convolutions, that of the auxiliary heads.

Source: Long et al., "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015.

Shapes: B images, D channels of the backbone's map, C of the decoder's.
"""

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from .layers import ConvNorm, Norm


class FCN(nn.Module):
    """
    Attributes:
        channels: C.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int = 256,
        *,
        num_convs: int = 1,
        norm: Norm = nn.BatchNorm2d,
        activation: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        """
        Args:
            in_channels: D.
            channels: C.
            num_convs: 3x3 convolutions, 1 or more.
            norm, activation: of all convolutions, see :class:`ConvNorm`.
        """
        super().__init__()
        self.channels = channels
        widths = [in_channels, *[channels] * (num_convs - 1)]
        self.convs = nn.Sequential(
            *(ConvNorm(width, channels, 3, norm=norm, activation=activation) for width in widths)
        )

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """A single map (B, D, h, w) -> (B, C, h, w)."""
        (x,) = maps
        return self.convs(x)
