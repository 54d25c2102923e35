"""Data structures: batches of images, objects and their boxes."""

from detectron2.structures.boxes import Boxes, BoxMode
from detectron2.structures.image_list import ImageList
from detectron2.structures.instances import Instances
