"""Small containers of tensors."""

from detectron2.structures.image_list import ImageList
