"""Backbones that Detectron2 lacks; importing the package adds them to its registry."""

from .config import (
    D2MobileNetV2,
    D2SwinTransformer,
    add_mobilenet_config,
    add_swin_config,
    add_vit_config,
    build_mobilenet_backbone,
    build_vit_backbone,
)

__all__ = [
    "D2MobileNetV2",
    "D2SwinTransformer",
    "add_mobilenet_config",
    "add_swin_config",
    "add_vit_config",
    "build_mobilenet_backbone",
    "build_vit_backbone",
]
