"""A result in the formats of the REST interface."""

import io
import json
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from PIL import Image

from catrank import Result
from segcore.outlines import encode_mask, outline_area, outline_box

Output = Literal["json", "labels", "overlay", "coco", "labelme"]
OUTPUTS: tuple[str, ...] = get_args(Output)


class Reply(NamedTuple):
    """A file: its bytes, media type, and how its name goes on behind that of the image."""

    content: bytes
    media_type: str
    ending: str


def reply(result: Result, output: str, alpha: float) -> Reply:
    """Return a result as a file.

    Args:
        result: of an image.
        output: one of ``OUTPUTS``.
        alpha: weight of the colours in an overlay, 0 to 1.
    """
    if output == "overlay":
        return Reply(png(result.overlay(alpha=alpha)), "image/png", "_overlay.png")
    return _MAKE[output](result)


def describe(result: Result) -> dict[str, Any]:
    """Return a result as :class:`catrank.serving.schemas.Segmentation`: masks in COCO's RLE."""
    height, width = result.size
    segments = []
    for annotation in result.annotations():
        rle = encode_mask(annotation.mask)
        segments.append(
            {
                "id": annotation.number,
                "class_id": annotation.class_id,
                "class_name": annotation.name,
                "is_object": annotation.is_object,
                "score": None if annotation.score is None else round(annotation.score, 6),
                "area": int(outline_area(rle, annotation.mask.shape)),
                "bbox": [float(value) for value in outline_box(rle)],
                "segmentation": rle,
            }
        )
    top = result.top_categories(len(result.vocabulary))
    return {
        "image": {"file_name": result.file_name, "height": height, "width": width},
        "task": result.task,
        "classes": list(result.class_names),
        "segments": segments,
        "categories": [{"class_name": name, "score": round(score, 6)} for name, score in top],
        "classes_kept": result.classes_kept,
    }


def png(image: Image.Image) -> bytes:
    """Return an image as the bytes of a PNG file."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _label_image(result: Result) -> Image.Image:
    """16 bits: class ids, 65535 = none."""
    return Image.fromarray(result.labels.astype(np.uint16))


def _json(content: object, ending: str) -> Reply:
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return Reply(text.encode(), "application/json", ending)


_MAKE: dict[str, Callable[[Result], Reply]] = {
    "json": lambda it: _json(describe(it), ".json"),
    "labels": lambda it: Reply(png(_label_image(it)), "image/png", "_labels.png"),
    "coco": lambda it: _json(it.to_coco(), "_coco.json"),
    # The name is a client's: whether a file of that name is on this machine must not matter.
    "labelme": lambda it: _json(it.to_labelme(embed_image=True), "_labelme.json"),
}
