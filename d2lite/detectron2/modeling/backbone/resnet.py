"""Residual networks.

Source: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from detectron2._absent import absent_message
from detectron2.config import CfgNode
from detectron2.layers import CNNBlockBase, Conv2d, ShapeSpec, get_norm
from detectron2.modeling.backbone.backbone import Backbone
from detectron2.modeling.backbone.build import BACKBONE_REGISTRY

# Blocks of res2 ... res5 by depth; from 50 on they are bottlenecks.
_NUM_BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}


def conv_norm(
    in_channels: int, out_channels: int, kernel_size: int, norm: Any, **kwargs: Any
) -> Conv2d:
    """Build a convolution without bias and with normalisation."""
    return Conv2d(
        in_channels,
        out_channels,
        kernel_size,
        bias=False,
        norm=get_norm(norm, out_channels),
        **kwargs,
    )


def fill(*convs: Conv2d | None) -> None:
    """Initialise convolutions for a following ReLU, in this order; None is skipped.

    A block creates all of its convolutions, which draw random numbers too, before it fills any: a
    seed gives the same weights as in Detectron2.
    """
    for conv in convs:
        if conv is not None:
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")


class _ResidualBlock(CNNBlockBase):
    """Convolutions with a shortcut, which is a projection where the numbers of channels differ."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, norm: Any) -> None:
        super().__init__(in_channels, out_channels, stride)
        self.shortcut = None
        if in_channels != out_channels:
            self.shortcut = conv_norm(in_channels, out_channels, 1, norm, stride=stride)

    def _add_shortcut(self, x: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        return F.relu_(out + (x if self.shortcut is None else self.shortcut(x)))


class BasicBlock(_ResidualBlock):
    """Two 3x3 convolutions."""

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: int = 1, norm: Any = "BN"
    ) -> None:
        super().__init__(in_channels, out_channels, stride, norm)
        self.conv1 = conv_norm(in_channels, out_channels, 3, norm, stride=stride, padding=1)
        self.conv2 = conv_norm(out_channels, out_channels, 3, norm, padding=1)
        fill(self.conv1, self.conv2, self.shortcut)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, C', H / stride, W / stride)."""
        return self._add_shortcut(x, self.conv2(F.relu_(self.conv1(x))))


class BottleneckBlock(_ResidualBlock):
    """A 1x1 convolution to fewer channels, a 3x3 convolution, and a 1x1 convolution back.

    Args:
        bottleneck_channels: channels of the 3x3 convolution.
        stride_in_1x1: whether the first 1x1 convolution strides, or the 3x3 convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        bottleneck_channels: int,
        stride: int = 1,
        num_groups: int = 1,
        norm: Any = "BN",
        stride_in_1x1: bool = False,
        dilation: int = 1,
    ) -> None:
        super().__init__(in_channels, out_channels, stride, norm)
        strides = (stride, 1) if stride_in_1x1 else (1, stride)
        self.conv1 = conv_norm(in_channels, bottleneck_channels, 1, norm, stride=strides[0])
        self.conv2 = conv_norm(
            bottleneck_channels,
            bottleneck_channels,
            3,
            norm,
            stride=strides[1],
            padding=dilation,
            groups=num_groups,
            dilation=dilation,
        )
        self.conv3 = conv_norm(bottleneck_channels, out_channels, 1, norm)
        fill(self.conv1, self.conv2, self.conv3, self.shortcut)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, C', H / stride, W / stride)."""
        out = F.relu_(self.conv2(F.relu_(self.conv1(x))))
        return self._add_shortcut(x, self.conv3(out))


class BasicStem(CNNBlockBase):
    """A 7x7 convolution and a pooling, each with stride 2."""

    def __init__(self, in_channels: int = 3, out_channels: int = 64, norm: Any = "BN") -> None:
        super().__init__(in_channels, out_channels, 4)
        self.conv1 = conv_norm(in_channels, out_channels, 7, norm, stride=2, padding=3)
        fill(self.conv1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, C', H / 4, W / 4)."""
        return F.max_pool2d(F.relu_(self.conv1(x)), kernel_size=3, stride=2, padding=1)


class ResNet(Backbone):
    """A stem and stages of residual blocks.

    Args:
        stem: the first layers.
        stages: sequences of blocks, called res2, res3, ...
        num_classes: adds a linear classifier behind the last stage; None for none.
        out_features: names of what :meth:`forward` returns, among "stem", "res2", ... "linear"; by
            default the last.
        freeze_at: see :meth:`freeze`.
    """

    def __init__(
        self,
        stem: nn.Module,
        stages: Sequence[Sequence[nn.Module]],
        num_classes: int | None = None,
        out_features: Sequence[str] | None = None,
        freeze_at: int = 0,
    ) -> None:
        super().__init__()
        self.stem, self.num_classes = stem, num_classes
        stride, channels = stem.stride, stem.out_channels
        self._out_feature_strides = {"stem": stride}
        self._out_feature_channels = {"stem": channels}
        self.stage_names, self.stages = (), []
        last = _last_needed(out_features, len(stages))
        for name, blocks in zip((f"res{i}" for i in range(2, last + 1)), stages, strict=False):
            for block in blocks:
                stride, channels = stride * block.stride, block.out_channels
            self.add_module(name, nn.Sequential(*blocks))
            self.stage_names += (name,)
            self.stages.append(getattr(self, name))
            self._out_feature_strides[name] = stride
            self._out_feature_channels[name] = channels
        default = self.stage_names[-1]
        if num_classes is not None:
            self.linear = nn.Linear(channels, num_classes)
            nn.init.normal_(self.linear.weight, std=0.01)
            default = "linear"
        self._out_features = list(out_features or [default])
        names = {name for name, _ in self.named_children()}
        if not names.issuperset(self._out_features):
            raise AssertionError(f"{self._out_features} has to be among {', '.join(sorted(names))}")
        self.freeze(freeze_at)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Images (N, C, H, W) -> the feature maps in ``out_features``, by name."""
        if x.dim() != 4:
            raise AssertionError(f"images are (N, C, H, W), not of {x.dim()} dimensions")
        x = self.stem(x)
        features: dict[str, torch.Tensor] = {}
        if "stem" in self._out_features:
            features["stem"] = x
        for name, stage in zip(self.stage_names, self.stages, strict=True):
            x = stage(x)
            if name in self._out_features:
                features[name] = x
        if self.num_classes is not None and "linear" in self._out_features:
            features["linear"] = self.linear(x.mean((2, 3)))
        return features

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of every feature map."""
        return super().output_shape()

    def freeze(self, freeze_at: int = 0) -> nn.Module:
        """Freeze the stem (from 1 on), res2 (from 2 on), res3 (from 3 on), ... Returns itself."""
        if freeze_at >= 1:
            self.stem.freeze()
        for stage in self.stages[: max(freeze_at - 1, 0)]:
            for block in stage:
                block.freeze()
        return self

    @staticmethod
    def make_stage(
        block_class: type[CNNBlockBase],
        num_blocks: int,
        *,
        in_channels: int,
        out_channels: int,
        **kwargs: Any,
    ) -> list[nn.Module]:
        """Blocks in a row.

        Args:
            **kwargs: of every block; ``stride_per_block`` and other ``<name>_per_block`` list a
                value for each.
        """
        lists = {k: v for k, v in kwargs.items() if k.endswith("_per_block")}
        for key, values in lists.items():
            if len(values) != num_blocks or key.removesuffix("_per_block") in kwargs:
                raise AssertionError(f"{key} lists {num_blocks} values and stands alone")
        common = {k: v for k, v in kwargs.items() if k not in lists}
        blocks = []
        for i in range(num_blocks):
            own = {k.removesuffix("_per_block"): values[i] for k, values in lists.items()}
            blocks.append(block_class(in_channels, out_channels, **common, **own))
            in_channels = out_channels
        return blocks

    @staticmethod
    def make_default_stages(
        depth: int, block_class: type[CNNBlockBase] | None = None, **kwargs: Any
    ) -> list[list[nn.Module]]:
        """The four stages of the paper.

        Args:
            depth: 18, 34, 50, 101 or 152.
            block_class: by default basic blocks below 50, bottlenecks from there on.
            **kwargs: for all blocks.
        """
        if block_class is None:
            block_class = BottleneckBlock if depth >= 50 else BasicBlock
        widest = depth >= 50
        out_channels = [256, 512, 1024, 2048] if widest else [64, 128, 256, 512]
        stages, in_channels = [], 64
        for stage, (blocks, width) in enumerate(zip(_NUM_BLOCKS[depth], out_channels, strict=True)):
            own = {"bottleneck_channels": width // 4} if block_class is not BasicBlock else {}
            strides = [1 if stage == 0 else 2] + [1] * (blocks - 1)
            stages.append(
                ResNet.make_stage(
                    block_class,
                    blocks,
                    in_channels=in_channels,
                    out_channels=width,
                    stride_per_block=strides,
                    **own,
                    **kwargs,
                )
            )
            in_channels = width
        return stages


def _last_needed(out_features: Sequence[str] | None, num_stages: int) -> int:
    """Return the index of the last stage in ``out_features``: later ones are not built."""
    numbers = [int(name[3:]) for name in out_features or () if name.startswith("res")]
    asked_for_all = not out_features or "linear" in out_features
    return num_stages + 1 if asked_for_all else max(numbers, default=2)


@BACKBONE_REGISTRY.register()
def build_resnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ResNet:
    """Build the network of ``MODEL.RESNETS``, frozen up to ``MODEL.BACKBONE.FREEZE_AT``."""
    node = cfg.MODEL.RESNETS
    if node.RES5_DILATION not in (1, 2):
        raise AssertionError(f"MODEL.RESNETS.RES5_DILATION is {node.RES5_DILATION}, not 1 or 2")
    stem = BasicStem(input_shape.channels, node.STEM_OUT_CHANNELS, node.NORM)
    return ResNet(
        stem,
        stages_from_config(cfg, stem.out_channels),
        out_features=node.OUT_FEATURES,
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
    )


def stages_from_config(
    cfg: CfgNode,
    in_channels: int,
    res4_dilation: int = 1,
    res5_multi_grid: Sequence[int] = (1, 1, 1),
) -> list[list[nn.Module]]:
    """Stages res2 ... res5 as ``MODEL.RESNETS`` describes them.

    Args:
        in_channels: channels of the stem.
        res4_dilation: dilation of res4, instead of its stride.
        res5_multi_grid: factors of the dilation for the blocks of res5.
    """
    node = cfg.MODEL.RESNETS
    counts = _NUM_BLOCKS[node.DEPTH]
    if any(node.DEFORM_ON_PER_STAGE):
        raise NotImplementedError(absent_message("MODEL.RESNETS.DEFORM_ON_PER_STAGE True"))
    is_basic = node.DEPTH < 50
    if is_basic and (
        node.RES2_OUT_CHANNELS != 64 or node.RES5_DILATION != 1 or node.NUM_GROUPS != 1
    ):
        raise AssertionError(
            "basic blocks (DEPTH 18 and 34) take RES2_OUT_CHANNELS 64, RES5_DILATION 1 and "
            "NUM_GROUPS 1 in MODEL.RESNETS"
        )
    dilations = (1, 1, res4_dilation, node.RES5_DILATION)
    width = node.RES2_OUT_CHANNELS
    stages = []
    for stage, (num_blocks, dilation) in enumerate(zip(counts, dilations, strict=True)):
        stride = 1 if stage == 0 or dilation > 1 else 2
        kwargs = {"stride_per_block": [stride] + [1] * (num_blocks - 1), "norm": node.NORM}
        if not is_basic:
            grid = res5_multi_grid if stage == 3 else (1,) * num_blocks
            kwargs |= {
                "bottleneck_channels": (node.NUM_GROUPS * node.WIDTH_PER_GROUP) << stage,
                "num_groups": node.NUM_GROUPS,
                "stride_in_1x1": node.STRIDE_IN_1X1,
                "dilation_per_block": [dilation * factor for factor in grid],
            }
        blocks = ResNet.make_stage(
            BasicBlock if is_basic else BottleneckBlock,
            num_blocks,
            in_channels=in_channels,
            out_channels=width << stage,
            **kwargs,
        )
        in_channels = width << stage
        stages.append(blocks)
    return stages
