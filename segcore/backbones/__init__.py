"""Backbones that Detectron2 lacks; importing the package adds them to its registry."""

from detectron2.config import CfgNode

from .config import (
    D2MobileNetV2,
    D2SwinTransformer,
    add_mobilenet_config,
    add_swin_config,
    build_mobilenet_backbone,
)
from .config_resnet import add_resnet_config, build_dilated_resnet_backbone
from .config_semask import D2SeMaskSwinTransformer
from .config_transformers import (
    add_beit_config,
    add_vit_config,
    build_beit_backbone,
    build_vit_backbone,
)
from .config_vit_adapter import add_vit_adapter_config, build_beit_adapter_backbone
from .tresnet import TResNetBackbone, add_tresnet_config, build_tresnet_backbone

__all__ = [
    "D2MobileNetV2",
    "D2SeMaskSwinTransformer",
    "D2SwinTransformer",
    "TResNetBackbone",
    "add_backbone_config",
    "add_beit_config",
    "add_mobilenet_config",
    "add_resnet_config",
    "add_swin_config",
    "add_tresnet_config",
    "add_vit_adapter_config",
    "add_vit_config",
    "build_beit_adapter_backbone",
    "build_beit_backbone",
    "build_dilated_resnet_backbone",
    "build_mobilenet_backbone",
    "build_tresnet_backbone",
    "build_vit_backbone",
]


def add_backbone_config(cfg: CfgNode) -> None:
    """Add the keys of all backbones."""
    add_swin_config(cfg)
    add_vit_config(cfg)
    add_beit_config(cfg)
    add_vit_adapter_config(cfg)
    add_resnet_config(cfg)
    add_mobilenet_config(cfg)
    add_tresnet_config(cfg)
