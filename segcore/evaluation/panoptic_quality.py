"""Panoptic quality (Kirillov et al., CVPR 2019), with the rules of COCO's panopticapi.

A predicted and a ground-truth segment of one category match if their IoU exceeds 0.5; void is in no
union. An unmatched ground-truth segment is a false negative, unless it is a crowd. An unmatched
prediction is a false positive, unless over half of it is in void and the crowd of its category.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass

import numpy as np

from segcore.annotations.panoptic_png import Segments

# IoUs of matches are in (0.5, 1]: doubles that are integer multiples of this. Sums of integers are
# exact, in any order and by any number of processes.
UNIT = 2.0**-53


@dataclass(frozen=True)
class Counts:
    """The counts of one category.

    Attributes:
        tp, fp, fn: true positive, false positive and false negative segments.
        iou_units: sum of the IoUs of the matches, in multiples of ``UNIT``.
    """

    tp: int = 0
    fp: int = 0
    fn: int = 0
    iou_units: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    @property
    def sum_iou(self) -> float:
        return self.iou_units * UNIT

    @property
    def quality(self) -> dict[str, float]:
        """PQ, SQ and RQ in 0 ... 1; nan of a category that does not occur."""
        size = self.tp + self.fp / 2 + self.fn / 2
        if not size:
            return {"PQ": math.nan, "SQ": math.nan, "RQ": math.nan}
        segmentation = self.sum_iou / self.tp if self.tp else 0.0
        return {"PQ": self.sum_iou / size, "SQ": segmentation, "RQ": self.tp / size}


def count_segments(prediction: Segments, ground_truth: Segments) -> dict[int, Counts]:
    """Compare the segments of one image.

    Returns:
        category id -> its counts, of the categories that occur.

    Raises:
        UserError: a map of ids and its list of segments do not agree.
    """
    shape = len(ground_truth.categories) + 1, len(prediction.categories) + 1
    overlap = _overlap(ground_truth.index(), prediction.index(), shape)
    areas = [
        ground_truth.areas.get(i, overlap[row].sum())
        for row, i in enumerate(ground_truth.categories, 1)
    ]
    true_area, area = np.array(areas, dtype=np.int64), overlap[:, 1:].sum(axis=0)
    true_category = np.array(list(ground_truth.categories.values()), dtype=np.int64)
    category = np.array(list(prediction.categories.values()), dtype=np.int64)
    crowd = np.array(
        [segment in ground_truth.crowds for segment in ground_truth.categories], dtype=bool
    )

    void, shared = overlap[0, 1:], overlap[1:, 1:]
    union = true_area[:, None] + (area - void) - shared
    comparable = (true_category[:, None] == category) & ~crowd[:, None] & (shared > 0)
    iou = np.divide(shared, union, where=comparable, out=np.zeros(shared.shape))
    matched = iou > 0.5
    missed = ~matched.any(axis=1) & ~crowd
    in_crowd = {true_category[row]: shared[row] for row in np.flatnonzero(crowd)}
    excused = [in_crowd[c][i] if c in in_crowd else 0 for i, c in enumerate(category)]
    false = ~matched.any(axis=0) & ((void + np.array(excused, dtype=np.int64)) / area <= 0.5)

    counts: dict[int, Counts] = {}
    for row, column in np.argwhere(matched):
        _add(counts, category[column], Counts(tp=1, iou_units=round(iou[row, column] / UNIT)))
    for found in category[false]:
        _add(counts, found, Counts(fp=1))
    for lost in true_category[missed]:
        _add(counts, lost, Counts(fn=1))
    return counts


def add_counts(parts: Iterable[Mapping[int, Counts]]) -> dict[int, Counts]:
    """Sum counts over images or processes, by category."""
    total: dict[int, Counts] = {}
    for part in parts:
        for category, counts in part.items():
            _add(total, category, counts)
    return total


def mean_quality(counts: Iterable[Counts]) -> dict[str, float]:
    """Return mean PQ, SQ and RQ in 0 ... 1 over the categories that occur; nan if none does."""
    qualities = [each.quality for each in counts]
    qualities = [quality for quality in qualities if not math.isnan(quality["PQ"])]
    if not qualities:
        return Counts().quality
    return {
        name: sum(quality[name] for quality in qualities) / len(qualities)
        for name in ("PQ", "SQ", "RQ")
    }


def _overlap(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Count the pixels of each pair of indices: two (H, W) -> ``shape`` int64."""
    return np.bincount((rows * shape[1] + columns).ravel(), minlength=math.prod(shape)).reshape(
        shape
    )


def _add(counts: dict[int, Counts], category: int, further: Counts) -> None:
    category = int(category)
    counts[category] = counts.get(category, Counts()) + further
