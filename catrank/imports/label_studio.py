"""Label Studio's JSON export: a list of tasks with annotations."""

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from catrank.imports.export import OBJECTS, Export, ExportClass, LabelledImage, Notes, Shape
from catrank.imports.shapes import ellipse, pairs, polygon, rectangle
from segcore.annotations import fields
from segcore.annotations.json_file import read_json_value
from segcore.errors import UserError, printable
from segcore.outlines import Outline, encode_mask
from segcore.runtime.files import check_file_name

KINDS = ("polygonlabels", "brushlabels", "rectanglelabels", "ellipselabels")
CHANNELS = 4  # of a brush, RGBA
LARGEST = 1000.0  # percent of a side


def read_label_studio(source: Path, image_dir: Path) -> Export:
    """Read the export "JSON"; shapes are painted in their order, classes are in that of names.

    Of several annotations of a task the first that was not cancelled counts; tasks without one are
    not labelled. The image of a task is a file in ``image_dir`` with the name that its address ends
    with, with or without the prefix of an upload.

    Raises:
        UserError: the file is wrong, or of another format.
    """
    tasks = {"tasks": read_json_value(source)}
    notes, found = Notes(), []
    for number, task in enumerate(fields.entries(tasks, "tasks", str(source))):
        where = f"{source}: task {number}"
        if "annotations" not in task or "data" not in task:
            raise UserError(f"{where} has no 'annotations': export as 'JSON', not as 'JSON-MIN'")
        done = [
            each
            for each in fields.entries(task, "annotations", where)
            if not each.get("was_cancelled")
        ]
        if not done:
            notes.add("tasks have no annotation and are left out", where)
            continue
        path = _find_image(task["data"], image_dir, where)
        shapes, size = _read_shapes(done[0], where, notes)
        found.append(LabelledImage(path.name, path, size, tuple(shapes)))
    if not found:
        raise UserError(f"{source} has no task with an annotation")
    names = sorted({shape.label for image in found for shape in image.shapes})
    classes = tuple(ExportClass(name) for name in names)
    return Export("label-studio", OBJECTS, classes, tuple(found), source, notes.lines())


def _find_image(data: object, image_dir: Path, where: str) -> Path:
    texts = [each for each in data.values() if isinstance(each, str)] if isinstance(
        data, dict
    ) else []  # fmt: skip
    if not texts:
        raise UserError(f"{where}: 'data' names no image")
    address = urlsplit(texts[0])
    local = parse_qs(address.query).get("d", [""])[0]  # /data/local-files/?d=folder/a.jpg
    name = PurePosixPath(local or unquote(address.path)).name
    check_file_name(name, f"{where}: the image {printable(texts[0])}")
    without_prefix = name.partition("-")[2] or name
    paths = [image_dir / each for each in (name, without_prefix)]
    return next((path for path in paths if path.is_file()), paths[0])


def _read_shapes(
    annotation: Mapping, where: str, notes: Notes
) -> tuple[list[Shape], tuple[int, int] | None]:
    """Return the shapes of an annotation, and (height, width) of its image if it has any."""
    shapes, sizes = [], set()
    for number, entry in enumerate(fields.entries(annotation, "result", where)):
        here = f"{where}: result[{number}]"
        kind = entry.get("type")
        if kind not in KINDS:
            notes.add(f"results are no shapes with an area ({printable(kind, 30)})", here)
            continue
        sides = {key: entry.get(f"original_{key}") for key in ("height", "width")}
        size = fields.size(sides, here)
        if fields.number(entry, "image_rotation", here, least=-360, most=360, default=0):
            raise UserError(f"{here}: its image was rotated in Label Studio: rotate it back")
        sizes.add(size)
        value = fields.value_of(entry, "value", here)
        labels = value.get(kind) if isinstance(value, dict) else None
        if not isinstance(labels, list) or len(labels) != 1 or not isinstance(labels[0], str):
            raise UserError(f"{here}: {kind!r} needs to be a list of one class")
        outline = _outline(kind, value, size, here)
        if outline is None:
            notes.add("polygons have less than three corners", here)
        else:
            label = fields.text({"label": labels[0]}, "label", here)
            shapes.append(Shape(label, outline))
    if len(sizes) > 1:
        raise UserError(f"{where}: its shapes are of images of different sizes")
    return shapes, next(iter(sizes), None)


def _outline(kind: str, value: Mapping, size: tuple[int, int], where: str) -> Outline | None:
    height, width = size
    if kind == "brushlabels":
        return encode_mask(decode_brush(value.get("rle"), size, where))
    if kind == "polygonlabels":
        points = pairs(value.get("points"), f"{where}: 'points'")
        return polygon([(x * width / 100, y * height / 100) for x, y in points], size, where)

    def percent(key: str, side: int) -> float:
        return fields.number(value, key, where, least=-LARGEST, most=LARGEST) * side / 100

    degrees = fields.number(value, "rotation", where, least=-360, most=360, default=0)
    corner = percent("x", width), percent("y", height)
    if kind == "ellipselabels":
        radii = percent("radiusX", width), percent("radiusY", height)
        return polygon(ellipse(corner, radii, degrees), size, where)
    sides = percent("width", width), percent("height", height)
    return polygon(rectangle(*corner, *sides, degrees), size, where)


def decode_brush(rle: object, size: tuple[int, int], where: str) -> np.ndarray:
    """Return the mask of a brush, (h, w) bool: the inverse of
    :func:`catrank.exports.label_studio.brush_rle`, which describes the format.

    Raises:
        UserError: it is damaged, or of an image of another size.
    """
    height, width = size
    try:
        bits = np.unpackbits(np.array(rle, dtype=np.uint8))
        values, lengths = zip(*_runs(bits, height * width * CHANNELS), strict=True)
        flat = np.repeat(np.array(values), np.array(lengths))
        return flat.reshape(height, width, CHANNELS)[..., -1] > 0
    except (ValueError, TypeError, OverflowError) as error:
        raise UserError(
            f"{where}: 'rle' is no brush of {width} x {height} pixels: {printable(error)}"
        ) from error


def _runs(bits: np.ndarray, total: int) -> Iterator[tuple[int, int]]:
    """Yield the value and the length of every run, which together have to be ``total``."""
    text = (bits + ord("0")).astype(np.uint8).tobytes().decode("ascii")
    position = 0

    def number(size: int) -> int:
        nonlocal position
        position += size
        return int(text[position - size : position], 2)

    if number(32) != total:
        raise ValueError("it has another number of values")
    word = number(5) + 1
    sizes = [number(4) + 1 for _ in range(4)]
    while total > 0:
        repeated = number(1)
        length = number(sizes[number(2)]) + 1
        total -= length
        if total < 0:
            raise ValueError("it goes beyond the image")
        if repeated:
            yield number(word), length
        else:
            for _ in range(length):
                yield number(word), 1
