"""Draw segments and objects with the functions for label maps in :mod:`.overlays`.

The segments of an image are a map (H, W) of their numbers, 0 where there is none, and a list of
:class:`Segment`. Objects overlap; in a map the one with the highest score covers the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segcore.drawing.overlays import Color
from segcore.vocabulary import Vocabulary, distinct_colors

from . import overlays

NOTHING = 0  # the number of pixels without a segment


@dataclass(frozen=True)
class Segment:
    """A segment of an image, or an object in it.

    Attributes:
        number: its value in the map, from 1; in a video the same in every frame.
        class_id: index in the vocabulary.
        is_object: True for one object (thing), False for all pixels of a class (stuff).
        score: confidence of the model, 0 to 1; None if it returns none.
    """

    number: int
    class_id: int
    is_object: bool = True
    score: float | None = None


@dataclass(frozen=True)
class Regions:
    """Regions to draw onto an image.

    Attributes:
        labels: (H, W), indices into `names` and `colors`.
        names, colors: of each region.
        ignore_label: the value of pixels that stay unchanged, if any.
    """

    labels: np.ndarray
    names: Sequence[str]
    colors: Sequence[Color]
    ignore_label: int | None = None


def class_regions(labels: np.ndarray, vocabulary: Vocabulary) -> Regions:
    """Return one region per class; labels (H, W) are class ids, the background is one class."""
    return Regions(labels, vocabulary.label_names, vocabulary.label_colors)


def segment_regions(
    numbers: np.ndarray,
    segments: Sequence[Segment],
    vocabulary: Vocabulary,
    *,
    tell_apart: bool = True,
) -> Regions:
    """Return one region per segment.

    Args:
        numbers: (H, W), of the segments, 0 = none.
        segments: all segments of the map.
        vocabulary: names of the classes, and colours of stuff.
        tell_apart: give each object its number in the name and a colour that depends on the number
            alone; otherwise the name and colour of its class, for numbers that change from frame to
            frame.
    """
    last = max((segment.number for segment in segments), default=0)
    index = np.zeros(last + 1, dtype=np.int64)
    object_colors = distinct_colors(last if tell_apart else 0, taken=vocabulary.colors)
    names, colors = ["nothing"], [(0, 0, 0)]
    for segment in segments:
        index[segment.number] = len(names)
        name, color = vocabulary.names[segment.class_id], vocabulary.colors[segment.class_id]
        if segment.is_object and tell_apart:
            name, color = f"{name} {segment.number}", object_colors[segment.number - 1]
        names.append(name)
        colors.append(color)
    return Regions(index[numbers], names, colors, ignore_label=0)


def paint_masks(masks: np.ndarray, numbers: Sequence[int]) -> np.ndarray:
    """Return a map of overlapping objects.

    Args:
        masks: (N, H, W) bool, the highest score first: it covers the others.
        numbers: N, from 1.

    Returns:
        (H, W) int64, 0 where no object is.
    """
    painted = np.full(masks.shape[1:], NOTHING, dtype=np.int64)
    for mask, number in zip(masks[::-1], numbers[::-1], strict=True):
        painted[mask] = number
    return painted


def draw_regions(image: np.ndarray, regions: Regions, *, alpha: float = 0.55) -> np.ndarray:
    """Draw colours, borders and names of regions on an image: (H, W, 3) uint8 -> the same."""
    drawn = overlays.overlay(
        image, regions.labels, regions.colors, alpha=alpha, ignore_label=regions.ignore_label
    )
    return overlays.name_regions(
        drawn, regions.labels, regions.names, regions.colors, ignore_label=regions.ignore_label
    )


def regions_legend(regions: Regions) -> np.ndarray:
    """Return the legend of the regions in the map, the largest first: (h, w, 3) uint8."""
    fractions = overlays.present_classes(regions.labels, regions.ignore_label)
    return overlays.legend(regions.names, regions.colors, fractions)
