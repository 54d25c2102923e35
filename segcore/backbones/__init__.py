"""Backbones that Detectron2 lacks; importing the package adds them to its registry."""

from .config import D2SwinTransformer, add_swin_config

__all__ = ["D2SwinTransformer", "add_swin_config"]
