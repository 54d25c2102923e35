"""Register data sets in COCO's format of objects."""

from detectron2.data.datasets.coco import register_coco_instances

__all__ = ["register_coco_instances"]
