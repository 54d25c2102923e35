"""ResNet with dilations in Detectron2's registry, and its config keys."""

from detectron2.config import CfgNode
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec, get_norm
from detectron2.modeling import BACKBONE_REGISTRY
from torch import nn

from segcore.config import register_config_keys

from .config import demand
from .resnet import DEPTHS, DILATIONS, STAGES, DilatedResNet


@register_config_keys
def add_resnet_config(cfg: CfgNode) -> None:
    """Add the key of ``MODEL.RESNETS`` that neither Detectron2 nor its DeepLab project has."""
    # Momentum of the running statistics of batch norm.
    cfg.MODEL.RESNETS.NORM_MOMENTUM = 0.1


@BACKBONE_REGISTRY.register()
def build_dilated_resnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> DilatedResNet:
    """Build ResNet as torchvision's (STEM_TYPE "basic") or ResNet-v1c ("deeplab").

    ``RES4_DILATION`` and ``RES5_DILATION`` are 1 and 1, 1 and 2 or 2 and 4: "res5" has stride 32,
    16 or 8. The first ``MODEL.BACKBONE.FREEZE_AT`` parts (the stem, "res2", ...) stay as loaded.

    Raises:
        UserError: a key of ``MODEL.RESNETS`` has a value that is not built.
    """
    node = cfg.MODEL.RESNETS
    _check(node)
    strides = {dilations: stride for stride, dilations in DILATIONS.items()}

    def norm(channels: int) -> nn.Module:
        layer = get_norm(node.NORM, channels)
        if hasattr(layer, "momentum"):
            layer.momentum = node.NORM_MOMENTUM
        return layer

    backbone = DilatedResNet(
        DEPTHS[node.DEPTH],
        strides[node.RES4_DILATION, node.RES5_DILATION],
        deep_stem=node.STEM_TYPE == "deeplab",
        norm=norm,
        width=node.RES2_OUT_CHANNELS // 4,
        stem_channels=node.STEM_OUT_CHANNELS,
        in_channels=input_shape.channels,
        out_features=node.OUT_FEATURES,
    )
    stem = ["stem"] if backbone.deep_stem else ["conv1", "bn1"]
    parts = [stem, *([f"layer{index + 1}"] for index in range(len(STAGES)))]
    for part in parts[: max(cfg.MODEL.BACKBONE.FREEZE_AT, 0)]:
        for name in part:
            _freeze(backbone, name)
    return backbone


def _freeze(backbone: nn.Module, name: str) -> None:
    """Freeze a part: no gradients, and batch norm with the loaded statistics."""
    part = getattr(backbone, name).requires_grad_(False)
    setattr(backbone, name, FrozenBatchNorm2d.convert_frozen_batchnorm(part))


def _check(node: CfgNode) -> None:
    """Raise UserError unless the backbone can be built."""
    dilations = (node.RES4_DILATION, node.RES5_DILATION)
    known = (dilations in DILATIONS.values(), "1, 2 or 4 after RES4_DILATION 1, 1 or 2")
    rules = {
        "DEPTH": (node.DEPTH in DEPTHS, "50, 101 or 152"),
        "STEM_TYPE": (node.STEM_TYPE in ("basic", "deeplab"), "basic or deeplab"),
        "STRIDE_IN_1X1": (not node.STRIDE_IN_1X1, "False: the 3x3 convolution strides"),
        "NUM_GROUPS": (node.NUM_GROUPS == 1, "1"),
        "WIDTH_PER_GROUP": (
            node.WIDTH_PER_GROUP * 4 == node.RES2_OUT_CHANNELS,
            f"a quarter of RES2_OUT_CHANNELS, {node.RES2_OUT_CHANNELS}",
        ),
        "RES5_DILATION": known,
        "RES5_MULTI_GRID": ([*node.RES5_MULTI_GRID] == [1, 1, 1], "[1, 1, 1]"),
        "NORM": (bool(node.NORM), "the name of a norm: BN, SyncBN, ..."),
        "OUT_FEATURES": (
            set(node.OUT_FEATURES) <= {*STAGES},
            f"among {', '.join(STAGES)}",
        ),
    }
    demand("RESNETS", node, rules)
