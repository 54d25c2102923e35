"""Register data sets in COCO's panoptic format, and read them."""

import functools
import json
import os

from detectron2.data.catalog import DatasetCatalog, MetadataCatalog
from detectron2.utils.file_io import PathManager


def register_coco_panoptic(
    name: str,
    metadata: dict,
    image_root: str,
    panoptic_root: str,
    panoptic_json: str,
    instances_json: str | None = None,
) -> None:
    """Register images with segments; the files are read on first use.

    Args:
        name: of the data set.
        metadata: entries for ``MetadataCatalog``, with ``thing_dataset_id_to_contiguous_id`` and
            ``stuff_dataset_id_to_contiguous_id``.
        image_root, panoptic_root: the folders of the images and of the PNG files.
        panoptic_json: segments in COCO's format.
        instances_json: objects in COCO's format, for their evaluation.
    """
    read = functools.partial(
        load_coco_panoptic_json, panoptic_json, image_root, panoptic_root, metadata
    )
    DatasetCatalog.register(name, read)
    files = {"json_file": instances_json, "panoptic_json": panoptic_json}
    folders = {"image_root": image_root, "panoptic_root": panoptic_root}
    labels = {"label_divisor": 1000, "ignore_label": 255}
    about = files | folders | labels | {"evaluator_type": "coco_panoptic_seg"} | metadata
    MetadataCatalog.get(name).set(**about)


def load_coco_panoptic_json(json_file: str, image_dir: str, gt_dir: str, meta: dict) -> list[dict]:
    """Return a record of each image with ``pan_seg_file_name`` and ``segments_info``.

    The image of a PNG has its name, with the ending .jpg.

    Raises:
        AssertionError: there is no record, or the files of the first one are missing.
    """
    with PathManager.open(json_file) as file:
        listed = json.load(file)["annotations"]
    records = [
        {
            "file_name": _join(image_dir, os.path.splitext(each["file_name"])[0] + ".jpg"),  # noqa: PTH122
            "image_id": int(each["image_id"]),
            "pan_seg_file_name": _join(gt_dir, each["file_name"]),
            "segments_info": [_read_segment(segment, meta) for segment in each["segments_info"]],
        }
        for each in listed
    ]
    assert records, f"no image in {image_dir}"
    for key in ("file_name", "pan_seg_file_name"):
        assert PathManager.isfile(records[0][key]), records[0][key]
    return records


def _join(folder: str, name: str) -> str:
    return os.path.join(folder, name)  # noqa: PTH118


def _read_segment(segment: dict, meta: dict) -> dict:
    """Return a segment with the class id of its category, and whether it is a thing."""
    things = meta["thing_dataset_id_to_contiguous_id"]
    category, isthing = segment["category_id"], segment["category_id"] in things
    ids = things if isthing else meta["stuff_dataset_id_to_contiguous_id"]
    return segment | {"category_id": ids[category], "isthing": isthing}
