"""MobileNetV2: inverted residuals, with batch norm or with batch norm folded into convolutions.

Source: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, table
2, without the last convolution. Strides beyond ``output_stride`` become dilations (Chen et al.,
"Rethinking Atrous Convolution for Semantic Image Segmentation", 2017, section 3.1). Parameters have
the names of ESSNet's released files.

Shapes: B images, (H, W) their size, C channels of a map.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

STEM_CHANNELS = 32
Padding = Literal["depthwise", "block"]
Norm = Callable[[int], nn.Module]  # channels -> layer


class StageSetting(NamedTuple):
    """A row of table 2: expansion factor, channels, number of blocks, stride of the first one."""

    expansion: int
    channels: int
    blocks: int
    stride: int


STAGES = (
    StageSetting(1, 16, 1, 1),
    StageSetting(6, 24, 2, 2),
    StageSetting(6, 32, 3, 2),
    StageSetting(6, 64, 4, 2),
    StageSetting(6, 96, 3, 1),
    StageSetting(6, 160, 3, 2),
    StageSetting(6, 320, 1, 1),
)
# The maps by the block (the stem is 0) that returns them: the last one of each stride.
MAPS = {3: "res2", 6: "res3", 13: "res4", 17: "res5"}


class MobileNetV2(nn.Module):
    """Maps "res2" (24 channels, stride 4), "res3" (32), "res4" (96) and "res5" (320)."""

    def __init__(
        self,
        output_stride: int = 16,
        *,
        norm: Norm | None = nn.BatchNorm2d,
        padding: Padding = "depthwise",
        in_channels: int = 3,
    ) -> None:
        """
        Args:
            output_stride: 8, 16 or 32; later strides become dilations, which in their first block
                are those of the block before.
            norm: from a number of channels to the layer behind a convolution; None: the
                convolutions have biases instead, as where batch norm was folded into them.
            padding: where zeros surround a map. "depthwise": in the 3x3 convolutions, as in the
                paper. "block": at the input of every block, so that its expansion turns them into
                norm and activation of zero, and not in the stem: ESSNet's release.
        """
        super().__init__()
        at_block = padding == "block"
        stem = convolution(in_channels, STEM_CHANNELS, 3, norm, stride=2, padding=not at_block)
        blocks: list[nn.Module] = [stem]
        stride, dilation, channels = 2, 1, STEM_CHANNELS
        self.channels: dict[str, int] = {}
        self.strides: dict[str, int] = {}
        for stage in STAGES:
            for index in range(stage.blocks):
                step, first_dilation = stage.stride if index == 0 else 1, dilation
                if stride * step > output_stride:
                    dilation, step = dilation * step, 1
                blocks.append(
                    InvertedResidual(
                        channels,
                        stage.channels,
                        stage.expansion,
                        norm,
                        stride=step,
                        dilation=first_dilation if index == 0 else dilation,
                        pad_block=at_block,
                    )
                )
                stride, channels = stride * step, stage.channels
                if name := MAPS.get(len(blocks) - 1):
                    self.channels[name], self.strides[name] = channels, stride
        low, *_ = MAPS
        self.low_level_features = nn.Sequential(*blocks[: low + 1])
        self.high_level_features = nn.ModuleDict(
            {str(index): blocks[index] for index in range(low + 1, len(blocks))}
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """images (B, 3, H, W) -> the maps by name, (B, C, H / stride, W / stride) rounded up."""
        x = self.low_level_features(images)
        maps = {"res2": x}
        for index, block in self.high_level_features.items():
            x = block(x)
            if name := MAPS.get(int(index)):
                maps[name] = x
        return maps


class InvertedResidual(nn.Module):
    """Expand the channels, convolve each on its own, project to few; section 3.3."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        expansion: int,
        norm: Norm | None,
        *,
        stride: int,
        dilation: int,
        pad_block: bool,
    ) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.padding = dilation if pad_block else 0
        self.residual = stride == 1 and in_channels == out_channels
        expand = [convolution(in_channels, hidden, 1, norm)] if expansion > 1 else []
        depthwise = convolution(
            *(hidden, hidden, 3, norm),
            stride=stride,
            dilation=dilation,
            groups=hidden,
            padding=not pad_block,
        )
        # A linear bottleneck: no activation behind the projection.
        self.conv = nn.Sequential(*expand, depthwise, *layers(hidden, out_channels, 1, norm))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C', h / stride, w / stride)."""
        out = self.conv(F.pad(x, (self.padding,) * 4))
        return x + out if self.residual else out


def convolution(
    in_channels: int, out_channels: int, kernel: int, norm: Norm | None, **options: int
) -> nn.Sequential:
    """Return a convolution, its norm if any, and ReLU6; the options are those of ``layers``."""
    return nn.Sequential(
        *layers(in_channels, out_channels, kernel, norm, **options), nn.ReLU6(inplace=True)
    )


def layers(
    in_channels: int,
    out_channels: int,
    kernel: int,
    norm: Norm | None,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    padding: bool = True,
) -> list[nn.Module]:
    """Return a convolution with a bias, or without and with a norm; ``padding`` keeps the size."""
    margin = dilation * (kernel // 2) if padding else 0
    options = {"padding": margin, "dilation": dilation, "groups": groups, "bias": norm is None}
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, **options)
    return [conv] if norm is None else [conv, norm(out_channels)]
