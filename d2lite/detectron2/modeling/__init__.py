"""Registries of models and their parts, and residual networks."""

from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import (
    BACKBONE_REGISTRY,
    Backbone,
    ResNet,
    build_backbone,
    build_resnet_backbone,
)
from detectron2.modeling.meta_arch import (
    META_ARCH_REGISTRY,
    SEM_SEG_HEADS_REGISTRY,
    build_model,
    build_sem_seg_head,
)
