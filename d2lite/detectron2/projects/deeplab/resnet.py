"""ResNet of DeepLab: another stem, and dilation instead of strides."""

import torch
import torch.nn.functional as F
from torch import nn

from detectron2.config import CfgNode
from detectron2.layers import CNNBlockBase, ShapeSpec
from detectron2.modeling.backbone import BACKBONE_REGISTRY, BasicStem, ResNet
from detectron2.modeling.backbone.resnet import conv_norm, fill, stages_from_config


class DeepLabStem(CNNBlockBase):
    """Three 3x3 convolutions and max pooling: stride 4."""

    def __init__(self, in_channels: int = 3, out_channels: int = 128, norm: str = "BN") -> None:
        super().__init__(in_channels, out_channels, 4)
        self.in_channels = in_channels
        half = out_channels // 2
        self.conv1 = conv_norm(in_channels, half, 3, norm, stride=2, padding=1)
        self.conv2 = conv_norm(half, half, 3, norm, padding=1)
        self.conv3 = conv_norm(half, out_channels, 3, norm, padding=1)
        fill(self.conv1, self.conv2, self.conv3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, C', H / 4, W / 4)."""
        for conv in (self.conv1, self.conv2, self.conv3):
            x = F.relu_(conv(x))
        return F.max_pool2d(x, kernel_size=3, stride=2, padding=1)


@BACKBONE_REGISTRY.register()
def build_resnet_deeplab_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> nn.Module:
    """``build_resnet_backbone`` with STEM_TYPE, RES4_DILATION and RES5_MULTI_GRID.

    Raises:
        ValueError: ``MODEL.RESNETS.STEM_TYPE`` is neither "basic" nor "deeplab".
    """
    node = cfg.MODEL.RESNETS
    stems = {"basic": BasicStem, "deeplab": DeepLabStem}
    if node.STEM_TYPE not in stems:
        raise ValueError(f"MODEL.RESNETS.STEM_TYPE is {node.STEM_TYPE!r}, not {' or '.join(stems)}")
    if node.RES4_DILATION not in (1, 2):
        raise AssertionError(f"MODEL.RESNETS.RES4_DILATION is {node.RES4_DILATION}, not 1 or 2")
    if node.RES5_DILATION not in ((4,) if node.RES4_DILATION == 2 else (1, 2, 4)):
        raise AssertionError(
            "MODEL.RESNETS.RES5_DILATION is 1, 2 or 4, and 4 behind RES4_DILATION 2"
        )
    stem = stems[node.STEM_TYPE](input_shape.channels, node.STEM_OUT_CHANNELS, node.NORM)
    return ResNet(
        stem,
        stages_from_config(cfg, stem.out_channels, node.RES4_DILATION, node.RES5_MULTI_GRID),
        out_features=node.OUT_FEATURES,
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
    )
