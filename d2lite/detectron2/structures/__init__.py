"""Small containers of tensors."""

from detectron2._absent import absent
from detectron2.structures.image_list import ImageList

__all__ = ["ImageList"]
__getattr__ = absent(__name__)
