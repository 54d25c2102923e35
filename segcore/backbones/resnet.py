"""ResNet of bottleneck blocks whose last strides may become dilations.

Source: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, with the stride in the
3x3 convolution; the stem of three convolutions: He et al., "Bag of Tricks for Image Classification
with Convolutional Neural Networks", CVPR 2019, section 4 (ResNet-C). Dilations: Chen et al.,
"Rethinking Atrous Convolution for Semantic Image Segmentation", 2017. The blocks are torchvision's;
parameters have the names of torchvision's and open-mmlab's released files.

Shapes: B images, (H, W) their size, C channels of a map.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch.nn.functional as F
from detectron2.modeling import Backbone
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck

DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
STAGES = ("res2", "res3", "res4", "res5")
# Dilations of res4 and res5 by the stride of res5.
DILATIONS = {32: (1, 1), 16: (1, 2), 8: (2, 4)}


class DilatedResNet(Backbone):
    """Maps "res2" ... "res5" of 4, 8, 16 and 32 times ``width`` channels."""

    def __init__(
        self,
        blocks: Sequence[int],
        output_stride: int = 32,
        *,
        deep_stem: bool = False,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
        width: int = 64,
        stem_channels: int = 64,
        in_channels: int = 3,
        out_features: Sequence[str] = STAGES,
    ) -> None:
        """
        Args:
            blocks: their number in each stage.
            output_stride: 8, 16 or 32, the stride of "res5"; later strides become dilations, which
                in the first block of a stage are those of the stage before.
            deep_stem: three 3x3 convolutions (ResNet-v1c) instead of a 7x7 convolution.
            norm: from a number of channels to the layer behind a convolution.
            width: channels inside the blocks of the first stage.
            stem_channels: channels of the stem.
            out_features: the maps to return.
        """
        super().__init__()
        if deep_stem:
            self.stem = _deep_stem(in_channels, stem_channels, norm)
        else:
            self.conv1 = nn.Conv2d(in_channels, stem_channels, 7, stride=2, padding=3, bias=False)
            self.bn1 = norm(stem_channels)
        self.deep_stem = deep_stem
        channels, stride, dilation = stem_channels, 4, 1
        self._out_feature_channels, self._out_feature_strides = {}, {}
        for index, dilated in enumerate((1, 1, *DILATIONS[output_stride])):
            step = 2 if index and dilated == dilation else 1
            inside = width << index
            stage = _stage(channels, inside, blocks[index], step, (dilation, dilated), norm)
            self.add_module(f"layer{index + 1}", stage)
            channels, stride, dilation = inside * Bottleneck.expansion, stride * step, dilated
            self._out_feature_channels[STAGES[index]] = channels
            self._out_feature_strides[STAGES[index]] = stride
        self._out_features = list(out_features)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """images (B, 3, H, W) -> maps (B, C, H / stride, W / stride), sides rounded up."""
        x = self.stem(images) if self.deep_stem else F.relu(self.bn1(self.conv1(images)))
        x = F.max_pool2d(x, 3, stride=2, padding=1)
        maps = {}
        for index, name in enumerate(STAGES):
            x = maps[name] = getattr(self, f"layer{index + 1}")(x)
        return {name: maps[name] for name in self._out_features}


def _deep_stem(in_channels: int, channels: int, norm: Callable[[int], nn.Module]) -> nn.Module:
    """Build three 3x3 convolutions, of which the first has stride 2 and two half the channels."""
    layers: list[nn.Module] = []
    sizes = (in_channels, channels // 2, channels // 2, channels)
    for index, (before, after) in enumerate(pairwise(sizes)):
        stride = 1 if index else 2
        conv = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        layers += [conv, norm(after), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def _stage(
    channels: int,
    width: int,
    blocks: int,
    stride: int,
    dilations: tuple[int, int],
    norm: Callable[[int], nn.Module],
) -> nn.Module:
    """Build the blocks of a stage.

    Args:
        channels: of the input.
        width: channels inside the blocks.
        stride: of the first block.
        dilations: of the first block and of the others.
    """
    out = width * Bottleneck.expansion
    shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride=stride, bias=False), norm(out))
    first = Bottleneck(channels, width, stride, shortcut, dilation=dilations[0], norm_layer=norm)
    others = (
        Bottleneck(out, width, dilation=dilations[1], norm_layer=norm) for _ in range(blocks - 1)
    )
    return nn.Sequential(first, *others)
