"""Write segments and instances in COCO's formats.

The id of a segment is 1000 x its class id + its object's number in the image (0 on the ground).
A PNG of three channels holds it as R + 256 G + 65536 B. No id is 0, the value of pixels without a
segment: in Scenes every pixel has one.
"""

from collections.abc import Sequence

import numpy as np

from segcore.errors import UserError
from segcore.scenes.catalogue import Catalogue, SceneClass
from segcore.scenes.render import Rendered

DIVISOR = 1000


def panoptic_image(image: Rendered) -> np.ndarray:
    """Encode segment ids as (height, width, 3), uint8."""
    ids = image.labels.astype(np.uint32) * DIVISOR + image.instances
    return np.stack([ids >> shift & 255 for shift in (0, 8, 16)], axis=-1).astype(np.uint8)


def segment_ids(panoptic: np.ndarray) -> np.ndarray:
    """Decode (height, width, 3) uint8 to ids, (height, width) int64."""
    return panoptic.astype(np.int64) @ (1, 256, 65536)


def describe_segments(ids: np.ndarray) -> list[dict]:
    """Return COCO's description of every segment of a map of ids (height, width), by id."""
    return [_describe(int(value), ids == value) for value in np.unique(ids)]


def _describe(segment_id: int, mask: np.ndarray) -> dict:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left = int(rows[0]), int(columns[0])
    return {
        "id": segment_id,
        "category_id": segment_id // DIVISOR,
        "area": int(mask.sum()),
        "bbox": [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top],
        "iscrowd": 0,
    }


def describe_objects(ids: np.ndarray, segments: Sequence[dict]) -> list[dict]:
    """Return the objects among the ``segments`` of a map of ids, each with its mask."""
    return [
        segment | {"segmentation": encode_mask(ids == segment["id"])}
        for segment in segments
        if segment["id"] % DIVISOR
    ]


def encode_mask(mask: np.ndarray) -> dict:
    """Encode a mask (height, width) of bool as COCO's compressed RLE.

    Raises:
        UserError: pycocotools is not installed.
    """
    try:
        from pycocotools import mask as library
    except ImportError as error:
        raise UserError("masks are written with pycocotools: pip install pycocotools") from error
    encoded = library.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": encoded["size"], "counts": encoded["counts"].decode("ascii")}


def panoptic_document(
    catalogue: Catalogue, images: Sequence[dict], segments: Sequence[Sequence[dict]]
) -> dict:
    """Return the content of panoptic.json: ``segments`` of each of ``images``."""
    annotations = [
        {"image_id": image["id"], "file_name": image["file_name"], "segments_info": list(each)}
        for image, each in zip(images, segments, strict=True)
    ]
    categories = [
        describe_category(entry) | {"isthing": int(entry.is_object)} for entry in catalogue.classes
    ]
    return {"images": list(images), "annotations": annotations, "categories": categories}


def instances_document(
    catalogue: Catalogue, images: Sequence[dict], objects: Sequence[Sequence[dict]]
) -> dict:
    """Return the content of instances.json: ``objects`` of each of ``images``."""
    pairs = [(image, entry) for image, each in zip(images, objects, strict=True) for entry in each]
    annotations = [
        entry | {"id": number, "image_id": image["id"]}
        for number, (image, entry) in enumerate(pairs, start=1)  # evaluators take 0 for "none"
    ]
    categories = [describe_category(entry) for entry in catalogue.objects]
    return {"images": list(images), "annotations": annotations, "categories": categories}


def describe_category(entry: SceneClass) -> dict:
    return {"id": entry.id, "name": entry.name, "supercategory": entry.shape or "ground"}
