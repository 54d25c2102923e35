"""Backbones: from a picture to feature maps."""

from detectron2._absent import absent
from detectron2.modeling.backbone.backbone import Backbone
from detectron2.modeling.backbone.build import BACKBONE_REGISTRY, build_backbone

__all__ = ["BACKBONE_REGISTRY", "Backbone", "build_backbone"]
__getattr__ = absent(__name__)
