"""Label maps and objects of labelled images."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from catrank.imports.export import LabelledImage, Shape
from catrank.imports.masks import Value, read_mask
from segcore.annotations.panoptic_png import segments_of_record
from segcore.datasets.preparing import describe_mask
from segcore.errors import UserError
from segcore.images import Header
from segcore.images.pixels import upright
from segcore.outlines import (
    draw_outline,
    encode_mask,
    outline_area,
    outline_box,
)


@dataclass(frozen=True)
class Palette:
    """The numbers that pixels get.

    Attributes:
        ids: label of a shape -> class id, or ``ignore_label`` for an ignored label.
        values: value or colour in masks -> the same.
        numbers: the same for the classes of segments, by their index in the export.
        uncovered: of pixels without a shape or segment.
        ignore_label: of pixels without a class.
        things: ids of classes with objects.
    """

    ids: Mapping[str, int]
    values: Mapping[Value, int]
    numbers: tuple[int, ...]
    uncovered: int
    ignore_label: int
    things: frozenset[int]


@dataclass(frozen=True)
class Painted:
    """The labels of an image.

    Attributes:
        labels: (H, W) class ids or the ignore label, upright.
        objects: entries of COCO's annotations without ids of their own and of the image; or of
            ``segments_info``.
        ids: (H, W) of segments, 0 where there is none; None without segments.
    """

    labels: np.ndarray
    objects: list[dict[str, Any]]
    ids: np.ndarray | None = None


def paint(image: LabelledImage, header: Header, palette: Palette) -> Painted:
    """Return the labels of an image.

    Args:
        image: with shapes, a mask or segments.
        header: of its file.
        palette: the numbers of the classes.

    Raises:
        UserError: sizes do not agree, or something cannot be read.
    """
    if image.mask is not None:
        labels = read_mask(image.mask, palette.values)
        _check_size(image, header, labels.shape)
        return Painted(labels, [])
    if image.record is not None:
        _check_size(image, header, image.size)
        return _paint_segments(image.record, palette)
    orientation = _orientation(image, header)
    size = image.size or upright_size(header)
    labels = np.full(size, palette.uncovered, dtype=np.int64)
    for shape in image.shapes:
        if shape.label in palette.ids:  # others are of classes that --classes leaves out
            labels[_draw(shape, size, image)] = palette.ids[shape.label]
    objects = []
    for label, mask, is_crowd in _objects(image, size):
        class_id = palette.ids.get(label, palette.ignore_label)
        if class_id in palette.things and mask.any():
            objects.append(_describe(upright(mask, orientation), class_id, is_crowd))
    return Painted(upright(labels, orientation), objects)


def _paint_segments(record: Mapping[str, Any], palette: Palette) -> Painted:
    """Paint segments; those of ignored classes are left out."""
    segments = segments_of_record(dict(record))
    index = segments.index()
    numbers = [palette.ignore_label, *(palette.numbers[i] for i in segments.categories.values())]
    objects, ids = [], np.zeros_like(segments.ids)
    for number, id in enumerate(segments.categories, 1):
        mask = index == number
        if numbers[number] != palette.ignore_label and mask.any():
            ids[mask] = id
            crowd = int(id in segments.crowds)
            entry = {"id": id, "category_id": numbers[number], "iscrowd": crowd}
            objects.append(entry | describe_mask(mask))
    return Painted(np.array(numbers)[index], objects, ids)


def upright_size(header: Header) -> tuple[int, int]:
    """Return (height, width) of an image as it is read."""
    size = header.height, header.width
    return size[::-1] if header.orientation > 4 else size


def _orientation(image: LabelledImage, header: Header) -> int:
    """Return EXIF's orientation that the labels lack: 1 if they fit the upright image.

    Raises:
        UserError: they fit neither the upright image nor the stored one.
    """
    if image.size == (header.height, header.width) != upright_size(header):
        return header.orientation
    _check_size(image, header, image.size)
    return 1


def _check_size(image: LabelledImage, header: Header, size: tuple[int, ...] | None) -> None:
    upright = upright_size(header)
    if size not in (None, upright):
        raise UserError(
            f"{image.path} is {upright[1]} x {upright[0]}, but was labelled as {size[1]} x "
            f"{size[0]}: give the images that were labelled"
        )


def _draw(shape: Shape, size: tuple[int, int], image: LabelledImage) -> np.ndarray:
    return draw_outline(shape.outline, size, f"a shape of {image.name}")


def _objects(image: LabelledImage, size: tuple[int, int]) -> Iterator[tuple[str, np.ndarray, bool]]:
    """Yield label, mask and crowd of every object: shapes of a group are one."""
    groups: dict[object, list[Shape]] = {}
    for number, shape in enumerate(image.shapes):
        key = (number,) if shape.group is None else (shape.label, shape.group)
        groups.setdefault(key, []).append(shape)
    for shapes in groups.values():
        mask = _draw(shapes[0], size, image)
        for shape in shapes[1:]:
            mask = mask | _draw(shape, size, image)
        yield shapes[0].label, mask, any(shape.is_crowd for shape in shapes)


def _describe(mask: np.ndarray, class_id: int, is_crowd: bool) -> dict[str, Any]:
    rle = encode_mask(mask)
    return {
        "category_id": class_id,
        "segmentation": rle,
        "area": outline_area(rle, mask.shape),
        "bbox": [*outline_box(rle)],
        "iscrowd": int(is_crowd),
    }
