"""The small parts of Detectron2's projects that published segmentation code uses."""

from detectron2._absent import absent

__getattr__ = absent(__name__)
