"""A result as the page shows it: JSON with maps as PNG, which a canvas draws.

Texts are plain: the page puts them into the document as text and never as markup.
"""

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

from catrank import Result
from catrank.serving.requests import SegmentedVideo
from segcore.drawing.overlays import present_classes

SIDE = 1024  # longer side of what is shown, in pixels
PRESENCE = 15  # classes with bars


def view_of(result: Result) -> dict[str, Any]:
    """Return what the page shows of an image.

    Returns:
        "image" and "regions", data URLs; a pixel of "regions" is red + 256 green = the number of
        its region, 0 = none. "legend": the regions, the largest first. "top": for the best, the
        second best ... class of each pixel a data URL, red + 256 green = its id, blue = its score
        times 255 / "scale". "names": of the classes in "top". "presence": the most probable
        classes.
    """
    rows, columns = _nearest(result.size)
    regions = result.regions()
    drawn = regions.labels[rows][:, columns].astype(np.int64)
    drawn = np.where(drawn == regions.ignore_label, 0, drawn + 1)
    scores = _region_scores(result)
    legend = [
        {
            "region": number + 1,
            "name": regions.names[number],
            "color": [int(channel) for channel in regions.colors[number]],
            "fraction": fraction,
            "score": scores.get(number),
        }
        for number, fraction in present_classes(regions.labels, regions.ignore_label)
    ]
    top = [
        (labels[rows][:, columns], scores[rows][:, columns])
        for labels, scores in _top_classes(result)
    ]
    scale = max([1.0, *(float(scores.max()) for _, scores in top)])  # sums of masks exceed 1
    names = {int(i): result.class_names[i] for labels, _ in top for i in np.unique(labels)}
    kept = () if result.category_ids is None else set(result.category_ids.tolist())
    presence = [
        {"name": name, "score": score, "kept": index in kept}
        for (name, score), index in zip(
            result.top_categories(PRESENCE), _best_categories(result), strict=True
        )
    ]
    shown = Image.fromarray(result.image)
    shown.thumbnail((SIDE, SIDE), Image.Resampling.BILINEAR)
    return {
        "kind": "image",
        "name": result.name,
        "width": len(columns),
        "height": len(rows),
        "image": _url(shown.resize((len(columns), len(rows))), "JPEG"),
        "regions": _url(_packed(drawn, np.zeros(drawn.shape))),
        "legend": legend,
        "top": [_url(_packed(labels, scores / scale)) for labels, scores in top],
        "scale": scale,
        "names": names,
        "presence": presence,
        "classes_kept": result.classes_kept,
    }


def view_of_video(video: SegmentedVideo, name: str) -> dict[str, Any]:
    """Return what the page shows of a video: its classes, the largest first."""
    colors = dict(
        zip(video.last.class_names, video.last.vocabulary.label_colors, strict=True)
    )  # of objects with tracks the colours are those of the tracks
    legend = [
        {
            "name": each,
            "fraction": fraction,
            "color": None if video.last.tracked else [int(c) for c in colors[each]],
            "score": None,
        }
        for each, fraction in video.fractions.items()
    ]
    height, width = video.last.size
    return {"kind": "video", "name": name, "width": width, "height": height, "legend": legend}


def _nearest(size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and columns that are shown of (height, width)."""
    scale = min(1.0, SIDE / max(size))
    rows, columns = (
        ((np.arange(max(1, round(side * scale))) + 0.5) * side / max(1, round(side * scale)))
        for side in size
    )
    return rows.astype(np.int64), columns.astype(np.int64)


def _region_scores(result: Result) -> dict[int, float]:
    """Return the scores of regions: those of classes, or of segments in their order from 1."""
    numbers = (
        [segment.class_id for segment in result.segments]
        if result.task == "semantic"
        else range(1, len(result.segments) + 1)
    )
    pairs = zip(numbers, result.segments, strict=True)
    return {number: segment.score for number, segment in pairs if segment.score is not None}


def _top_classes(result: Result) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return ids (H, W) and scores (H, W) of the best classes of each pixel, the best first."""
    if result.top_labels is not None and result.top_scores is not None:
        return [*zip(result.top_labels, result.top_scores, strict=True)]
    if result.pixel_scores is not None and not (result.labels < 0).any():
        return [(result.labels, result.pixel_scores)]
    return []


def _best_categories(result: Result) -> list[int]:
    if result.category_scores is None:
        return []
    return np.argsort(-result.category_scores, kind="stable")[:PRESENCE].tolist()


def _packed(numbers: np.ndarray, scores: np.ndarray) -> Image.Image:
    """Return numbers (H, W) in red and green, and scores (H, W), 0 to 1, in blue."""
    scores = np.nan_to_num(scores, nan=0.0, neginf=0.0).clip(0, 1)
    channels = numbers & 255, numbers >> 8, np.rint(scores * 255)
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))


def _url(image: Image.Image, format: str = "PNG") -> str:
    file = io.BytesIO()
    image.save(
        file,
        format,
        **({"quality": 92, "subsampling": 0} if format == "JPEG" else {"compress_level": 3}),
    )
    return f"data:image/{format.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"
