"""The registry of meta-architectures."""

import torch
from torch import nn

from detectron2.config import CfgNode
from detectron2.utils.registry import ModelRegistry

# Called with cfg; must return a module that takes a list of dicts.
META_ARCH_REGISTRY = ModelRegistry("META_ARCH")


def build_model(cfg: CfgNode) -> nn.Module:
    """Build ``MODEL.META_ARCHITECTURE`` on ``MODEL.DEVICE``; loads no weights."""
    model = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)(cfg)
    return model.to(torch.device(cfg.MODEL.DEVICE))
