"""Config keys, the backbone and the polynomial schedule of DeepLab; no heads."""

from detectron2.projects.deeplab.build_solver import build_lr_scheduler
from detectron2.projects.deeplab.config import add_deeplab_config
from detectron2.projects.deeplab.lr_scheduler import WarmupPolyLR
from detectron2.projects.deeplab.resnet import build_resnet_deeplab_backbone
