"""Backbones that Detectron2 does not have, in its registry; importing the package adds them."""

from .config import D2SwinTransformer, add_swin_config

__all__ = ["D2SwinTransformer", "add_swin_config"]
