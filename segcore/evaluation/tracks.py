"""Average precision of tracks of masks, as in YouTube-VIS (Yang et al., ICCV 2019).

COCO's rules over whole videos: the IoU of two tracks is the sum of their intersections over the sum
of their unions, over all frames. Each video gives a :class:`Matches`, without masks;
:func:`average_precision` computes the scores from those of all videos.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from pycocotools import mask as rle
from torch import Tensor

THRESHOLDS = np.linspace(0.5, 0.95, 10)  # T, of the IoU
RECALLS = np.linspace(0, 1, 101)
# A ranges of an object's mean number of pixels in the frames that show it; both ends are included.
SIZES = {"": (0, 1e10), "s": (0, 128**2), "m": (128**2, 256**2), "l": (256**2, 1e10)}
MOST = 100  # the top predictions of a class in a video that count
SCORES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10")


@dataclass(frozen=True)
class Track:
    """One object, or one prediction.

    Attributes:
        masks: T of COCO's RLE, None in frames without it.
        areas: (T,) int64, pixels a frame.
        size: mean area in the frames that show it; 0 if none does.
        crowd: whether it stands for many objects; matches with it do not count.
        score: of a prediction.
    """

    masks: Sequence[dict[str, Any] | None]
    areas: np.ndarray
    size: float
    crowd: bool = False
    score: float = 0.0

    @classmethod
    def of(
        cls,
        masks: Sequence[dict[str, Any] | None],
        *,
        stated_areas: Sequence[float | None] | None = None,
        crowd: bool = False,
        score: float = 0.0,
    ) -> "Track":
        """Build a track from masks; the size is computed from ``stated_areas`` if given."""
        areas = [int(rle.area(mask)) if mask else 0 for mask in masks]
        shown = [area for area in (stated_areas or areas) if area]
        size = float(np.mean(shown)) if shown else 0.0
        return cls(masks, np.array(areas, dtype=np.int64), size, crowd, score)


@dataclass(frozen=True)
class Matches:
    """The matches of N predictions with the ground truth.

    Attributes:
        video: (N,) int64, the video's index in the order of ids.
        category: (N,) int64, the model's id of the category.
        rank: (N,) int64, by score among the predictions of its category in its video, from 0.
        score: (N,) float64.
        matched, ignored: (N, A, T) bool, by size range and threshold: whether it matches an object,
            and whether it does not count.
        num_objects: (K, A) int64, the number of ground-truth objects of each category.
    """

    video: Tensor
    category: Tensor
    rank: Tensor
    score: Tensor
    matched: Tensor
    ignored: Tensor
    num_objects: Tensor

    @classmethod
    def none(cls, num_categories: int) -> "Matches":
        """Return the matches of no video."""
        integers, flags = torch.zeros(0, dtype=torch.int64), (0, len(SIZES), len(THRESHOLDS))
        return cls(
            *(integers, integers, integers, integers.double()),
            *(torch.zeros(flags, dtype=torch.bool) for _ in range(2)),
            torch.zeros(num_categories, len(SIZES), dtype=torch.int64),
        )

    @classmethod
    def joined(cls, parts: Sequence["Matches"]) -> "Matches":
        """Join the matches of several videos, or processes."""
        joined = {
            field.name: torch.cat([getattr(part, field.name) for part in parts])
            for field in fields(cls)[:-1]
        }
        return cls(**joined, num_objects=sum(part.num_objects for part in parts))


def track_iou(one: Track, other: Track) -> float:
    """Return summed intersections over summed unions; 0 for two tracks without a pixel."""
    frames = np.flatnonzero((one.areas > 0) & (other.areas > 0))
    shared = sum(
        int(rle.area(rle.merge([one.masks[t], other.masks[t]], intersect=True))) for t in frames
    )
    union = int(one.areas.sum() + other.areas.sum()) - shared
    return shared / union if union else 0.0


def match_video(
    video: int,
    predictions: dict[int, list[Track]],
    objects: dict[int, list[Track]],
    num_categories: int,
) -> Matches:
    """Match the predictions for a video with its objects.

    Args:
        video: its index in the order of ids.
        predictions, objects: by the model's id of the category.
        num_categories: K.
    """
    parts = [Matches.none(num_categories)]
    for category in sorted({*predictions, *objects}):
        best = sorted(predictions.get(category, ()), key=lambda prediction: -prediction.score)[
            :MOST
        ]
        matched, ignored, number = _match(best, objects.get(category, []))
        n = len(best)
        num_objects = torch.zeros(num_categories, len(SIZES), dtype=torch.int64)
        num_objects[category] = torch.from_numpy(number)
        parts.append(
            Matches(
                video=torch.full((n,), video),
                category=torch.full((n,), category),
                rank=torch.arange(n),
                score=torch.tensor([prediction.score for prediction in best], dtype=torch.float64),
                matched=torch.from_numpy(matched),
                ignored=torch.from_numpy(ignored),
                num_objects=num_objects,
            )
        )
    return Matches.joined(parts)


def _match(
    predictions: Sequence[Track], objects: Sequence[Track]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return ``matched`` and ``ignored`` (N, A, T) of one category, and ``num_objects`` (A,)."""
    iou = np.array(
        [
            [track_iou(prediction, ground_truth) for ground_truth in objects]
            for prediction in predictions
        ]
    )
    crowd = np.array([ground_truth.crowd for ground_truth in objects], dtype=bool)
    shape = (len(predictions), len(SIZES), len(THRESHOLDS))
    matched, ignored = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    num_objects = np.zeros(len(SIZES), dtype=np.int64)
    for a, (low, high) in enumerate(SIZES.values()):
        outside = crowd | ~_within(objects, low, high)
        num_objects[a] = (~outside).sum()
        ignored[:, a] = ~_within(predictions, low, high)[:, None]
        for t, threshold in enumerate(THRESHOLDS):
            for n, found in enumerate(_partners(iou, outside, crowd, threshold)):
                if found is not None:
                    matched[n, a, t], ignored[n, a, t] = True, outside[found]
    return matched, ignored, num_objects


def _within(tracks: Sequence[Track], low: float, high: float) -> np.ndarray:
    return np.array([low <= track.size <= high for track in tracks], dtype=bool)


def _partners(
    iou: np.ndarray, outside: np.ndarray, crowd: np.ndarray, threshold: float
) -> Iterable[int | None]:
    """Yield the object that each prediction matches, in order of score: the unmatched one of the
    greatest IoU. Objects that do not count come last, and crowds can match several times."""
    free = np.ones(len(outside), dtype=bool)
    for row in iou:
        found = None
        for group in (free & ~outside, free & outside):
            if found is None:
                found = _best_match(row, np.flatnonzero(group), threshold)
        if found is not None:
            free[found] = crowd[found]
        yield found


def _best_match(iou: np.ndarray, candidates: Iterable[int], threshold: float) -> int | None:
    """Return the candidate of the greatest IoU, of equal ones the last; None if all are low."""
    found = None
    for candidate in candidates:
        if iou[candidate] >= (threshold if found is None else iou[found]):
            found = candidate
    return found


def average_precision(matches: Matches, names: Sequence[str]) -> dict[str, float]:
    """Return ``SCORES`` and ``AP-<class>`` in percent; nan without ground truth.

    Args:
        matches: of all videos, in any order.
        names: of the K categories.
    """
    matches = _in_order(matches)
    precision = np.full((len(SIZES), len(names), len(THRESHOLDS)), math.nan)
    recall = {most: np.full((len(names), len(THRESHOLDS)), math.nan) for most in (1, 10)}
    for k, a in np.argwhere(matches.num_objects.numpy() > 0):
        number = int(matches.num_objects[k, a])
        precision[a, k] = _curves(matches, k, a, number, MOST)[0]
        if a == 0:
            for most, values in recall.items():
                values[k] = _curves(matches, k, a, number, most)[1]
    of_all = precision[0]
    means = {
        "AP": of_all,
        "AP50": of_all[:, 0],
        "AP75": of_all[:, 5],
        **{f"AP{size}": precision[a] for a, size in enumerate(SIZES) if size},
        **{f"AR{most}": values for most, values in recall.items()},
        **{f"AP-{name}": of_all[k] for k, name in enumerate(names)},
    }
    return {name: 100 * _mean(values) for name, values in means.items()}


def _in_order(matches: Matches) -> Matches:
    """Sort by falling score, equal scores by video and rank, whatever the order of the input."""
    keys = [matches.rank, matches.video, -matches.score]
    order = torch.from_numpy(np.lexsort([key.numpy() for key in keys]))
    sorted_fields = {f.name: getattr(matches, f.name)[order] for f in fields(Matches)[:-1]}
    return Matches(**sorted_fields, num_objects=matches.num_objects)


def _curves(
    matches: Matches, category: int, size: int, num_objects: int, most: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return precision averaged over the recalls, and the greatest recall: two (T,), of the top
    ``most`` predictions in every video."""
    chosen = (matches.category == int(category)) & (matches.rank < most)
    matched, counts = matches.matched[chosen, size].numpy(), ~matches.ignored[chosen, size].numpy()
    right, wrong = (matched & counts).cumsum(axis=0), (~matched & counts).cumsum(axis=0)
    precision = np.zeros(len(THRESHOLDS))
    for t in range(len(THRESHOLDS)) if len(right) else ():
        envelope = right[:, t] / (right[:, t] + wrong[:, t] + np.spacing(1))
        envelope = np.maximum.accumulate(envelope[::-1])[::-1]
        reached = np.searchsorted(right[:, t] / num_objects, RECALLS, side="left")
        precision[t] = np.append(envelope, 0.0)[reached].mean()
    recall = right[-1] / num_objects if len(right) else np.zeros(len(THRESHOLDS))
    return precision, recall


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else math.nan
