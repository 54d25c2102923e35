"""LabelMe's folders: a JSON an image, beside it."""

import base64
import binascii
from collections.abc import Mapping
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath

from catrank.imports.export import OBJECTS, Export, ExportClass, LabelledImage, Notes, Shape
from catrank.imports.shapes import painted, pairs, pasted
from segcore.annotations import fields, read_annotations
from segcore.datasets.preparing import for_all
from segcore.errors import UserError
from segcore.images import decode_image
from segcore.images.folders import is_hidden, natural_order
from segcore.outlines import Outline
from segcore.runtime.files import join_inside

WITH_AREA = ("polygon", "rectangle", "circle", "mask")


def read_labelme(source: Path, image_dir: Path | None, workers: int = 1) -> Export:
    """Read the JSON files of a folder and its subfolders; shapes are painted in their order.

    Shapes are filled with their borders, as LabelMe fills them. Classes are in the order of their
    names. An image without a JSON file is not labelled, one without shapes is.

    Args:
        source: the folder.
        image_dir: of the images; None: each is where its JSON file says.
        workers: processes.

    Raises:
        UserError: there are no such files, or one is wrong.
    """
    paths = sorted(
        (
            path
            for path in source.rglob("*.json")
            if not is_hidden(path.relative_to(source)) and path.is_file()
        ),
        key=natural_order,
    )
    read = for_all(partial(_read_file, source, image_dir), paths, workers, "labelme")
    found, notes = [], Notes()
    for path, one in zip(paths, read, strict=True):
        if one is None:
            notes.add("JSON files are not LabelMe's", path)
            continue
        image, left_out = one
        found.append(image)
        for what in left_out:
            notes.add(f"shapes have no area ({what}) and are left out", path)
    if not found:
        raise UserError(f"{source} holds no JSON file of LabelMe, which has 'shapes'")
    names = sorted({shape.label for image in found for shape in image.shapes})
    classes = tuple(ExportClass(name) for name in names)
    return Export("labelme", OBJECTS, classes, tuple(found), source, notes.lines())


def _read_file(
    source: Path, image_dir: Path | None, path: Path
) -> tuple[LabelledImage, list[str]] | None:
    """Return an image and the kinds of its shapes without an area; None for another JSON file."""
    content = read_annotations(path)
    if not {"shapes", "imagePath"} <= content.keys():
        return None
    renamed = {
        "height": content.get("imageHeight"),
        "width": content.get("imageWidth"),
    }
    size = fields.size(renamed, str(path))
    shapes, left_out = [], []
    for number, entry in enumerate(fields.entries(content, "shapes", str(path))):
        where = f"{path}: shapes[{number}]"
        kind = entry.get("shape_type") or "polygon"
        outline = _outline(entry, kind, size, where) if kind in WITH_AREA else None
        if outline is None:
            left_out.append(str(kind))
            continue
        group = entry.get("group_id")
        group = group if isinstance(group, int | str) else None
        shapes.append(Shape(fields.text(entry, "label", where), outline, group=group))
    image = _image_path(content, path, image_dir)
    below = image_dir or source
    name = image.relative_to(below).as_posix()
    return LabelledImage(name, image, size, tuple(shapes)), left_out


def _image_path(content: Mapping, path: Path, image_dir: Path | None) -> Path:
    named = fields.text(content, "imagePath", str(path))
    if image_dir is not None:  # the path is relative to where the JSON was saved
        named = PureWindowsPath(PurePosixPath(named).name).name
    try:
        return join_inside(image_dir or path.parent, named, f"{path}: 'imagePath'")
    except UserError as error:
        raise UserError(f"{error}, or give the folder of the images with --images") from error


def _outline(entry: Mapping, kind: str, size: tuple[int, int], where: str) -> Outline | None:
    points = pairs(entry.get("points"), f"{where}: 'points'")
    if kind != "mask":
        return painted(kind, points, size, where)
    if len(points) != 2:
        raise UserError(f"{where}: the 'points' of a mask need to be two corners of its box")
    try:
        data = base64.b64decode(fields.value_of(entry, "mask", where), validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise UserError(f"{where}: 'mask' needs to be a PNG file in base64") from error
    part = decode_image(data, f"{where}: 'mask'").max(axis=2) > 0
    left, top = (round(value) for value in points[0])
    return pasted(part, left, top, size, where)
