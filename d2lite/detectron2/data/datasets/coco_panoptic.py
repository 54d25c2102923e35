"""Register data sets in COCO's panoptic format, and read them."""

import functools
import json
import os

from detectron2.data.catalog import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets.coco import load_coco_json, load_sem_seg
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


def register_coco_panoptic_separated(
    name: str,
    metadata: dict,
    image_root: str,
    panoptic_root: str,
    panoptic_json: str,
    sem_seg_root: str,
    instances_json: str,
) -> None:
    """Register objects and label maps of the same images; the files are read on first use.

    ``NAME_separated`` has both in its records, for models that learn things and stuff apart, and
    is evaluated on the segments; ``NAME_stuffonly`` has the label maps alone.

    Args:
        name: beginning of the names of the two data sets.
        metadata: further entries for ``MetadataCatalog``, of both.
        image_root, panoptic_root, sem_seg_root: the folders of the images, of the PNG files with
            segments and of the label maps; those of an image have its name, with the ending .png.
        panoptic_json: segments in COCO's format.
        instances_json: objects in COCO's format.
    """
    both, stuff = f"{name}_separated", f"{name}_stuffonly"
    about = {"sem_seg_root": sem_seg_root, "image_root": image_root, "ignore_label": 255}
    read = functools.partial(_load_separated, instances_json, image_root, sem_seg_root, both)
    DatasetCatalog.register(both, read)
    MetadataCatalog.get(both).set(
        panoptic_root=panoptic_root,
        panoptic_json=panoptic_json,
        json_file=instances_json,
        evaluator_type="coco_panoptic_seg",
        **about,
        **metadata,
    )
    DatasetCatalog.register(stuff, functools.partial(load_sem_seg, sem_seg_root, image_root))
    MetadataCatalog.get(stuff).set(evaluator_type="sem_seg", **about, **metadata)


def _load_separated(json_file: str, image_root: str, sem_seg_root: str, name: str) -> list[dict]:
    """Return the records of the objects, each with the label map of its image.

    Raises:
        KeyError: an image has no label map.
    """
    pairs = load_sem_seg(sem_seg_root, image_root)
    labels = {pair["file_name"]: pair["sem_seg_file_name"] for pair in pairs}
    records = load_coco_json(json_file, image_root, name)
    return [record | {"sem_seg_file_name": labels[record["file_name"]]} for record in records]


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
