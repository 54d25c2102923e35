"""Configuration: a typed tree of defaults, and constructors that read it."""

from detectron2._absent import absent
from detectron2.config.config import CfgNode, configurable, get_cfg

__all__ = ["CfgNode", "configurable", "get_cfg"]
__getattr__ = absent(__name__)
