"""A convolution with its norm and activation, of which the decoders of convolutions are built."""

from collections.abc import Callable

from torch import Tensor, nn

from segcore.errors import UserError

# Builds the norm of a number of channels; None: no norm, but a bias in the convolution.
Norm = Callable[[int], nn.Module] | None


class ConvNorm(nn.Module):
    """A convolution that keeps the size of the map, its norm, and an activation.

    Attributes:
        conv: with a bias only where there is no norm.
        norm: of the channels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        *,
        dilation: int = 1,
        norm: Norm = nn.BatchNorm2d,
        activation: Callable[[], nn.Module] = nn.ReLU,
    ) -> None:
        """
        Args:
            kernel_size: odd.
            dilation: distance between the positions that the kernel reads.
            norm, activation: build the modules behind the convolution.
        """
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            padding=dilation * (kernel_size // 2),
            dilation=dilation,
            bias=norm is None,
        )
        self.norm = nn.Identity() if norm is None else norm(out_channels)
        self.activation = activation()
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")
        if norm is None:
            nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, h, w) -> (B, C', h, w).

        Raises:
            UserError: the norm cannot be computed in training.
        """
        x = self.conv(x)
        try:
            x = self.norm(x)
        except ValueError as error:  # batch norm of a single value a channel
            raise UserError(
                f"the norm of a map {tuple(x.shape)} cannot be computed in training ({error}): "
                "set SOLVER.IMS_PER_BATCH to two images or more a process, or MODEL.PER_PIXEL.NORM "
                "GN"
            ) from error
        return self.activation(x)
