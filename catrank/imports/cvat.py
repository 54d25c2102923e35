"""CVAT's exports: XML of images, and the file that lists the colours of masks."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from catrank.imports.export import OBJECTS, Export, ExportClass, LabelledImage, Notes, Shape
from catrank.imports.shapes import ellipse, pasted, polygon, rectangle, turned_around
from catrank.imports.xml_tree import Element, read_xml
from segcore.annotations import fields
from segcore.errors import UserError, printable
from segcore.outlines import Outline
from segcore.runtime.files import join_inside
from segcore.vocabulary import Color

SPLITS = {"train": "train", "val": "val", "test": "val"}  # beginnings of the names of subsets
WITH_AREA = ("polygon", "box", "ellipse", "mask")
NO_SHAPES = ("tag", "attribute")
LARGEST = 1e6  # of a coordinate


def read_cvat(source: Path, image_dir: Path) -> Export:
    """Read "CVAT for images"; shapes of a higher layer are painted on top.

    Classes are in the order of the project. An image without shapes has none: CVAT lists all.

    Raises:
        UserError: the file is wrong, or of another format.
    """
    root = read_xml(source)
    if root.tag != "annotations" or next(root.find("track"), None) is not None:
        raise UserError(
            f"{printable(source)} is not of the format 'CVAT for images 1.1': export it as that"
        )
    notes, found = Notes(), []
    for element in root.children:
        if element.tag == "image":
            found.append(_read_image(element, source, image_dir, notes))
    if not found:
        raise UserError(f"{printable(source)} lists no image")
    return Export("cvat", OBJECTS, _classes(root, found), tuple(found), source, notes.lines())


def _classes(root: Element, images: list[LabelledImage]) -> tuple[ExportClass, ...]:
    """Return the labels of the project, then those of shapes that it does not list."""
    classes = {}
    for label in (label for meta in root.find("meta") for label in meta.find("label")):
        if name := label.text_of("name"):
            classes[name] = ExportClass(name, _hex_color(label.text_of("color")))
    for shape in (shape for image in images for shape in image.shapes):
        classes.setdefault(shape.label, ExportClass(shape.label))
    return tuple(classes.values())


def _hex_color(text: str) -> Color | None:
    digits = text.removeprefix("#")
    try:
        value = bytes.fromhex(digits)
    except ValueError:
        return None
    return (value[0], value[1], value[2]) if len(value) == 3 else None


def _read_image(element: Element, source: Path, image_dir: Path, notes: Notes) -> LabelledImage:
    where = f"{printable(source)} line {element.line}"
    size = _size(element, where)
    name = element.attributes.get("name")
    path = join_inside(image_dir, name, where)
    layers: list[tuple[float, Shape]] = []
    for child in element.children:
        here = f"{printable(source)} line {child.line}"
        if child.tag in NO_SHAPES:
            continue
        outline = _outline(child, size, here) if child.tag in WITH_AREA else None
        if outline is None:
            notes.add(f"shapes have no area ({child.tag[:30]}) and are left out", here)
            continue
        layer = _number(child, "z_order", here, "0")
        group = child.attributes.get("group_id", "0")
        label = fields.text(child.attributes, "label", here)
        layers.append((layer, Shape(label, outline, group=None if group == "0" else group)))
    layers.sort(key=lambda each: each[0])
    subset = element.attributes.get("subset", "").lower()
    split = next((kind for start, kind in SPLITS.items() if subset.startswith(start)), None)
    shapes = tuple(shape for _, shape in layers)
    return LabelledImage(path.relative_to(image_dir).as_posix(), path, size, shapes, split=split)


def _outline(element: Element, size: tuple[int, int], where: str) -> Outline | None:
    def number(key: str, default: str = "") -> float:
        return _number(element, key, where, default)

    if element.tag == "polygon":
        return polygon(list(_points(element, where)), size, where)
    if element.tag == "mask":
        part = _decode(element, where)
        return pasted(part, int(number("left")), int(number("top")), size, where)
    degrees = number("rotation", "0")
    if element.tag == "ellipse":
        center = number("cx"), number("cy")
        return polygon(ellipse(center, (number("rx"), number("ry")), degrees), size, where)
    left, top, right, bottom = map(number, ("xtl", "ytl", "xbr", "ybr"))
    corners = rectangle(left, top, right - left, bottom - top)
    middle = (left + right) / 2, (top + bottom) / 2
    return polygon(turned_around(corners, middle, degrees), size, where)


def _points(element: Element, where: str) -> Iterator[tuple[float, float]]:
    for text in filter(None, element.attributes.get("points", "").split(";")):
        pair = text.split(",")
        try:
            x, y = map(float, pair)
        except ValueError as error:
            raise UserError(f"{where}: 'points' need to be x,y;x,y;...") from error
        yield x, y


def _size(element: Element, where: str) -> tuple[int, int]:
    sides = {key: _number(element, key, where) for key in ("height", "width")}
    return fields.size(sides, where)


def _number(element: Element, key: str, where: str, default: str = "") -> float:
    text = element.attributes.get(key, default)
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not -LARGEST <= value <= LARGEST:
        raise UserError(f"{where}: {key!r} is {printable(repr(text), 60)}, but has to be a number")
    return value


def _decode(element: Element, where: str) -> np.ndarray:
    """Return the mask of an RLE, row by row: runs outside and inside in turn, (h, w) bool."""
    size = _size(element, where)
    try:
        runs = np.array([int(run) for run in element.attributes.get("rle", "").split(",")])
    except (ValueError, OverflowError) as error:
        raise UserError(f"{where}: 'rle' needs to be whole numbers with commas") from error
    if runs.min() < 0 or runs.max() > size[0] * size[1] or runs.sum() != size[0] * size[1]:
        raise UserError(f"{where}: 'rle' does not fill {size[1]} x {size[0]} pixels")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(size)
