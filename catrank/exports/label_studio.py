"""Label Studio's format: tasks with predictions to import, and the labels of their project."""

from collections.abc import Iterable, Sequence
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np

from catrank.exports.annotations import Annotation, unicode_text
from catrank.exports.polygons import polygons_without_holes
from segcore.errors import UserError

SHAPES = {"brush": "BrushLabels", "polygons": "PolygonLabels"}
FROM_NAME, TO_NAME = "label", "image"  # of the tags in the project's labelling interface
SIZES = (3, 4, 8, 16)  # bits of a run length: the format has four, which the file names
CHANNELS = 4  # of Label Studio's brush, RGBA


def label_studio_task(
    annotations: Iterable[Annotation],
    size: tuple[int, int],
    image: str,
    *,
    shapes: str = "brush",
    model_version: str = "catrank",
) -> dict[str, Any]:
    """Return a task with the annotations as its prediction; a file to import is a list of tasks.

    Args:
        annotations: of the image.
        size: (height, width).
        image: address of the image, as the Label Studio server reaches it.
        shapes: "brush", the masks themselves; or "polygons", without holes, in percent.
        model_version: what Label Studio lists predictions under.

    Raises:
        UserError: there are no such shapes.
    """
    if shapes not in SHAPES:
        raise UserError(f"shapes is {shapes!r}: use {' or '.join(map(repr, SHAPES))}")
    kind = SHAPES[shapes].lower()
    scores, regions = [], []
    for annotation in annotations:
        if annotation.score is not None:
            scores.append(annotation.score)
        values = _brush(annotation.mask) if shapes == "brush" else _polygons(annotation.mask, size)
        for number, value in enumerate(values):
            region: dict[str, Any] = {
                "id": f"{annotation.number}-{number}",
                "from_name": FROM_NAME,
                "to_name": TO_NAME,
                "type": kind,
                "original_width": size[1],
                "original_height": size[0],
                "image_rotation": 0,
                "value": value | {kind: [annotation.name]},
            }
            if annotation.score is not None:
                region["score"] = round(annotation.score, 6)
            regions.append(region)
    prediction: dict[str, Any] = {"model_version": model_version, "result": regions}
    if scores:
        prediction["score"] = round(sum(scores) / len(scores), 6)
    return {"data": {TO_NAME: unicode_text(image)}, "predictions": [prediction]}


def label_studio_config(
    class_names: Sequence[str],
    colors: Sequence[tuple[int, int, int]] = (),
    *,
    shapes: str = "brush",
) -> str:
    """Return the labelling interface of a project for these tasks, as XML.

    Args:
        class_names: the labels.
        colors: RGB of each; none: Label Studio's.
        shapes: as of the tasks.
    """
    labels = []
    for number, name in enumerate(class_names):
        color = "#{:02x}{:02x}{:02x}".format(*colors[number]) if colors else ""
        background = f" background={quoteattr(color)}" if color else ""
        labels.append(f"    <Label value={quoteattr(name)}{background}/>")
    tag = SHAPES[shapes]
    return "\n".join(
        [
            "<View>",
            f'  <Image name="{TO_NAME}" value="${TO_NAME}" zoom="true"/>',
            f'  <{tag} name="{FROM_NAME}" toName="{TO_NAME}">',
            *labels,
            f"  </{tag}>",
            "</View>\n",
        ]
    )


def _polygons(mask: np.ndarray, size: tuple[int, int]) -> list[dict[str, Any]]:
    height, width = size
    return [
        {"points": [[100 * x / width, 100 * y / height] for x, y in ring], "closed": True}
        for ring in polygons_without_holes(mask)
    ]


def _brush(mask: np.ndarray) -> list[dict[str, Any]]:
    return [{"format": "rle", "rle": brush_rle(mask)}]


def brush_rle(mask: np.ndarray) -> list[int]:
    """Encode a mask (H, W) bool as Label Studio's brush: the bytes of thi.ng/rle-pack of an image
    RGBA in which all channels are 255 inside and 0 outside.

    32 bits are the number of values; 5 bits their size in bits, minus 1; four times 4 bits the
    sizes of run lengths, minus 1. Each run is a 1, two bits that choose a size, its length minus 1,
    and its value.
    """
    flat = mask.ravel()
    starts = np.concatenate(([0], np.flatnonzero(flat[1:] != flat[:-1]) + 1, [flat.size]))
    longest = 1 << SIZES[-1]
    bits = [f"{flat.size * CHANNELS:032b}", f"{8 - 1:05b}", *(f"{n - 1:04b}" for n in SIZES)]
    for start, length in zip(starts[:-1], np.diff(starts) * CHANNELS, strict=True):
        value = f"{255 * int(flat[start]):08b}"
        left = int(length)
        while left:
            run = min(left, longest)
            index = next(i for i, size in enumerate(SIZES) if run <= 1 << size)
            bits.append(f"1{index:02b}{run - 1:0{SIZES[index]}b}{value}")
            left -= run
    text = np.frombuffer("".join(bits).encode("ascii"), dtype=np.uint8) - ord("0")
    packed: list[int] = np.packbits(text).tolist()
    return packed
