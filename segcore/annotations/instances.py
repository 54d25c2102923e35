"""Read the objects of images in COCO's instance format."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from segcore.annotations import fields
from segcore.annotations.json_file import read_annotations
from segcore.outlines import Outline, check_outline, largest_area, outline_area, outline_box
from segcore.runtime.files import join_inside

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AnnotatedObject:
    """An object of an image.

    Attributes:
        category_id: the file's.
        is_crowd: whether it stands for an uncounted number of objects.
        outline: sound polygons or RLE, as :func:`segcore.outlines.check_outline` returns them.
        box: x, y, width and height in pixels: the file's, or where it has none the outline's.
        area: in pixels: the file's, by which COCO's scores sort objects into small, medium and
            large, or where it has none the number of pixels of the outline.
    """

    category_id: int
    is_crowd: bool
    outline: Outline
    box: fields.Box
    area: float


@dataclass(frozen=True, slots=True)
class AnnotatedImage:
    """An image and its objects, in the order of the file.

    Attributes:
        id: unique in the file.
        path: of the image; None if the reader was given no image folder.
        height, width: in pixels.
        objects: those that have an outline.
    """

    id: int | str
    path: Path | None
    height: int
    width: int
    objects: list[AnnotatedObject] = field(default_factory=list)


def read_instance_file(
    json_file: str | Path, image_dir: str | Path | None = None
) -> tuple[dict[int, str], list[AnnotatedImage]]:
    """Read a file of COCO's instance format: its categories by id, and its images.

    Args:
        json_file: has ``images``, ``annotations`` and ``categories``.
        image_dir: folder that ``file_name`` is relative to; None skips file names.

    Raises:
        UserError: the file cannot be read, or something in it is missing or wrong.
    """
    content = read_annotations(json_file)
    names = {id: entry["name"] for id, entry in fields.categories(content, json_file).items()}
    images = read_images(content, json_file, image_dir)
    listed, left_out = fields.entries(content, "annotations", str(json_file)), 0
    for number, entry in enumerate(listed):
        where = f"{json_file}: annotations[{number}]"
        id = fields.identifier(entry, "image_id", where)
        if id not in images:
            raise fields.wrong(where, "image_id", id, "the id of one of the file's images")
        found = _read_object(entry, (images[id].height, images[id].width), names, where)
        if found is None:
            left_out += 1
        else:
            images[id].objects.append(found)
    if left_out:
        logger.warning(
            "%s: %d of %d objects have no outline (a polygon of three corners, or an RLE) and are "
            "left out",
            json_file,
            left_out,
            len(listed),
        )
    return names, list(images.values())


def read_images(
    content: Mapping, json_file: str | Path, image_dir: str | Path | None
) -> dict[int | str, AnnotatedImage]:
    """Read the ``images`` of a file in one of COCO's formats, by their ids.

    Raises:
        UserError: one of them is wrong, or two have the same id.
    """
    images: dict[int | str, AnnotatedImage] = {}
    for number, entry in enumerate(fields.entries(content, "images", str(json_file))):
        where = f"{json_file}: images[{number}]"
        id = fields.identifier(entry, "id", where)
        if id in images:
            raise fields.wrong(where, "id", id, "one that no other image has")
        path = None
        if image_dir is not None:
            name = fields.value_of(entry, "file_name", where)
            path = join_inside(image_dir, name, f"{where}: 'file_name'")
        images[id] = AnnotatedImage(id, path, *fields.size(entry, where))
    return images


def _read_object(
    entry: Mapping, size: tuple[int, int], categories: Mapping[int, str], where: str
) -> AnnotatedObject | None:
    """Return an object of an image of (height, width); None where it has no outline."""
    category = fields.category(entry, "category_id", where, categories)
    crowd = fields.flag(entry, "iscrowd", where, default=0)
    area = fields.number(entry, "area", where, least=0, most=largest_area(size), default=None)
    box = fields.box(entry, "bbox", where, default=None)
    outline = check_outline(entry.get("segmentation"), size, f"{where}: 'segmentation'")
    if outline is None:
        return None
    return AnnotatedObject(
        category,
        crowd,
        outline,
        outline_box(outline) if box is None else box,
        outline_area(outline, size) if area is None else area,
    )
