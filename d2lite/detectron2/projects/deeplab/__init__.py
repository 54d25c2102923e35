"""Config keys and the polynomial schedule of DeepLab; no models."""

from detectron2.projects.deeplab.build_solver import build_lr_scheduler
from detectron2.projects.deeplab.config import add_deeplab_config
from detectron2.projects.deeplab.lr_scheduler import WarmupPolyLR
