"""COCO's format of objects: one JSON of images, annotations and categories.

Read by pycocotools, Detectron2, CVAT and others. A mask is an RLE, or polygons without holes.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from catrank.exports.annotations import Annotation, unicode_text
from catrank.exports.polygons import polygons_without_holes
from segcore.errors import UserError
from segcore.outlines import encode_mask, outline_area, outline_box

SHAPES = ("rle", "polygons")
FIRST_CATEGORY = 1  # id of class 0: COCO's ids count from 1


def coco_categories(
    class_names: Sequence[str], things: Sequence[bool] | None = None
) -> list[dict[str, Any]]:
    """Return the categories of class names; ``things`` are those of the panoptic format."""
    categories: list[dict[str, Any]] = [
        {"id": number, "name": name, "supercategory": name}
        for number, name in enumerate(class_names, FIRST_CATEGORY)
    ]
    for category, isthing in zip(categories, things or (), strict=things is not None):
        category["isthing"] = int(isthing)
    return categories


def coco_image(image_id: int, file_name: str, size: tuple[int, int]) -> dict[str, Any]:
    """Return the entry of an image of (height, width)."""
    return {
        "id": image_id,
        "file_name": unicode_text(file_name),
        "height": size[0],
        "width": size[1],
    }


def coco_annotations(
    annotations: Iterable[Annotation], image_id: int, first_id: int, shapes: str = "rle"
) -> list[dict[str, Any]]:
    """Return the entries of an image's annotations.

    Args:
        annotations: of the image.
        image_id: of its entry.
        first_id: of the first entry; the others follow.
        shapes: "rle" or "polygons"; a region with holes is cut into polygons that together are
            exactly its pixels.

    Raises:
        UserError: there are no such shapes.
    """
    if shapes not in SHAPES:
        raise UserError(f"shapes is {shapes!r}: use {' or '.join(map(repr, SHAPES))}")
    entries = []
    for id, annotation in enumerate(annotations, first_id):
        rle = encode_mask(annotation.mask)
        entry: dict[str, Any] = {
            "id": id,
            "image_id": image_id,
            "category_id": annotation.class_id + FIRST_CATEGORY,
            "segmentation": rle,
            "area": outline_area(rle, annotation.mask.shape),
            "bbox": [*outline_box(rle)],
            "iscrowd": 0,
        }
        if shapes == "polygons":
            rings = polygons_without_holes(annotation.mask)
            entry["segmentation"] = [[value for point in ring for value in point] for ring in rings]
        if annotation.score is not None:
            entry["score"] = round(annotation.score, 6)
        entries.append(entry)
    return entries


def coco_dataset(
    images: list[dict[str, Any]],
    annotations: list[dict[str, Any]],
    categories: list[dict[str, Any]],
) -> dict[str, Any]:
    """Return the content of the file."""
    return {
        "info": {"description": "segmented by CatRank"},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }
