"""Data sets of objects in COCO's format, and of folders of images and label maps."""

import contextlib
import functools
import io
import logging
import os
from collections.abc import Sequence

from detectron2.data.catalog import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from detectron2.utils.file_io import PathManager

KEPT = ("iscrowd", "bbox", "keypoints", "category_id")


def _files(root: str, suffix: str) -> list[str]:
    """Return the files of a folder (not of its subfolders) with a suffix, by name without it."""
    names = [name for name in PathManager.ls(root) if name.endswith(suffix)]
    return [os.path.join(root, n) for n in sorted(names, key=lambda n: os.path.splitext(n)[0])]  # noqa: PTH118, PTH122


def _stems(paths: list[str], suffix: str) -> list[str]:
    return [os.path.basename(path)[: -len(suffix)] for path in paths]  # noqa: PTH119


def load_sem_seg(
    gt_root: str, image_root: str, gt_ext: str = "png", image_ext: str = "jpg"
) -> list[dict]:
    """Pair the images of one folder with the label maps of another.

    Equal numbers of files are paired in the order of their names, whatever they are; otherwise
    those are kept that both folders have, with a warning.

    Returns:
        Records with "file_name" and "sem_seg_file_name"; no sizes.

    Raises:
        AssertionError: there is no label map.
    """
    images, labels = _files(image_root, image_ext), _files(gt_root, gt_ext)
    if not labels:
        raise AssertionError(f"no label map ending in {gt_ext} in {gt_root}")
    if len(images) != len(labels):
        logger = logging.getLogger(__name__)
        logger.warning(
            "%d images in %s but %d label maps in %s",
            len(images),
            image_root,
            len(labels),
            gt_root,
        )
        stems = sorted({*_stems(images, image_ext)} & {*_stems(labels, gt_ext)})
        logger.warning("The %d that both have are used", len(stems))
        images = [os.path.join(image_root, stem + image_ext) for stem in stems]  # noqa: PTH118
        labels = [os.path.join(gt_root, stem + gt_ext) for stem in stems]  # noqa: PTH118
    return [
        {"file_name": image, "sem_seg_file_name": label}
        for image, label in zip(images, labels, strict=True)
    ]


def register_coco_instances(name: str, metadata: dict, json_file: str, image_root: str) -> None:
    """Register images with objects; the file is read on first use, and gives the class names.

    Args:
        name: of the data set.
        metadata: further entries for ``MetadataCatalog``.
        json_file: objects in COCO's format.
        image_root: folder that names of images are relative to.
    """
    DatasetCatalog.register(name, functools.partial(load_coco_json, json_file, image_root, name))
    MetadataCatalog.get(name).set(
        json_file=json_file, image_root=image_root, evaluator_type="coco", **metadata
    )


def load_coco_json(
    json_file: str,
    image_root: str,
    dataset_name: str | None = None,
    extra_annotation_keys: Sequence[str] | None = None,
) -> list[dict]:
    """Return a record of each image, in the order of image ids, with its ``annotations``.

    Class ids count the categories in the order of their ids. Polygons of less than three corners
    are left out, and objects of which none is left.

    Args:
        json_file: objects in COCO's format.
        image_root: folder that names of images are relative to.
        dataset_name: its metadata gets ``thing_classes`` and
            ``thing_dataset_id_to_contiguous_id``, and class ids are contiguous; None keeps the
            category ids of the file.
        extra_annotation_keys: further keys of annotations to keep.

    Raises:
        AssertionError: two annotations have one id.
    """
    from pycocotools.coco import COCO

    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(PathManager.get_local_path(json_file))
    ids = _register_classes(coco, dataset_name) if dataset_name is not None else None
    listed = [entry for image in coco.imgToAnns.values() for entry in image]
    if "minival" not in json_file and len({entry["id"] for entry in listed}) < len(listed):
        raise AssertionError(f"annotation ids in {json_file} are not unique")
    keys = (*KEPT, *(extra_annotation_keys or ()))
    records = []
    for image_id in sorted(coco.imgs):
        image = coco.imgs[image_id]
        objects = (_read_object(entry, keys, ids) for entry in coco.imgToAnns[image_id])
        records.append(
            {
                "file_name": os.path.join(image_root, image["file_name"]),  # noqa: PTH118
                "height": image["height"],
                "width": image["width"],
                "image_id": image_id,
                "annotations": [each for each in objects if each is not None],
            }
        )
    return records


def _register_classes(coco: object, dataset_name: str) -> dict[int, int]:
    """Return category ids -> class ids, and set them in the metadata."""
    ids = sorted(coco.getCatIds())
    contiguous = {category: number for number, category in enumerate(ids)}
    metadata = MetadataCatalog.get(dataset_name)
    metadata.thing_classes = [each["name"] for each in coco.loadCats(ids)]
    metadata.thing_dataset_id_to_contiguous_id = contiguous
    return contiguous


def _read_object(entry: dict, keys: Sequence[str], ids: dict[int, int] | None) -> dict | None:
    """Return an annotation of a record; None if no polygon of it has three corners."""
    found = {key: entry[key] for key in keys if key in entry}
    outline = entry.get("segmentation")
    if isinstance(outline, dict) and isinstance(outline["counts"], list):
        from pycocotools import mask

        outline = mask.frPyObjects(outline, *outline["size"])
    elif outline and not isinstance(outline, dict):
        outline = [each for each in outline if len(each) % 2 == 0 and len(each) >= 6]
        if not outline:
            return None
    if outline:
        found["segmentation"] = outline
    if "bbox" in found and len(found["bbox"]) == 0:
        raise ValueError(f"an annotation of image {entry['image_id']} has an empty 'bbox'")
    keypoints = found.get("keypoints")
    if keypoints:  # COCO's are pixels' indices; Detectron2's lie in the middle of pixels
        found["keypoints"] = [
            value if index % 3 == 2 else value + 0.5 for index, value in enumerate(keypoints)
        ]
    found["bbox_mode"] = BoxMode.XYWH_ABS
    if ids is not None:
        found["category_id"] = ids[found["category_id"]]
    return found
