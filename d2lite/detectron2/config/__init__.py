"""Configuration: a typed tree of defaults, and constructors that read it."""

from detectron2.config.config import CfgNode, configurable, get_cfg, global_cfg, set_global_cfg
