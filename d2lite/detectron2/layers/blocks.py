"""Base class of the blocks of convolutional networks."""

from torch import nn

from detectron2.layers.batch_norm import FrozenBatchNorm2d


class CNNBlockBase(nn.Module):
    """A block from (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride).

    Args:
        in_channels, out_channels, stride: kept as attributes.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.stride = in_channels, out_channels, stride

    def freeze(self) -> "CNNBlockBase":
        """Freeze the parameters and the statistics of batch norms. Returns itself."""
        self.requires_grad_(False)
        FrozenBatchNorm2d.convert_frozen_batchnorm(self)
        return self
