"""What a model predicts for an image: one kind of object for all tasks."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image

from segcore.drawing.segments import (
    NOTHING,
    Regions,
    Segment,
    class_regions,
    draw_regions,
    regions_legend,
    segment_regions,
)
from segcore.vocabulary import Vocabulary

NO_CLASS = -1


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """The segmentation of an image, or of a frame of a video.

    Semantic results have a segment for each class in the image; panoptic ones a segment for each
    object and each kind of background; instance ones a segment for each object, and objects may
    overlap. The same attributes describe all three.

    Shapes: (H, W) the image, N segments, T classes.

    Attributes:
        name: path or address of the image, or a number.
        image: (H, W, 3) uint8, RGB.
        vocabulary: the T classes.
        task: "semantic", "panoptic" or "instance".
        segment_ids: (H, W) int32, the ids of ``segments``, 0 = none; where objects overlap, that
            of the object with the highest score.
        segments: N of them, each with ``number`` (its id), ``class_id``, ``is_object`` and
            ``score``; objects by descending score.
        pixel_scores: (H, W) float32, the score of each pixel's class; None of tasks without.
        category_scores: (T,) float32, probability of each class to be in the image, from a model
            with RankSeg; else None.
        frame: index of the frame in its video; None of an image.
        tracked: whether ids stand for the same object in all frames.
    """

    name: str
    image: np.ndarray
    vocabulary: Vocabulary
    task: str
    segment_ids: np.ndarray
    segments: tuple[Segment, ...]
    object_masks: np.ndarray | None = None
    pixel_scores: np.ndarray | None = None
    category_scores: np.ndarray | None = None
    frame: int | None = None
    tracked: bool = False

    @classmethod
    def semantic(
        cls,
        name: str,
        image: np.ndarray,
        vocabulary: Vocabulary,
        labels: np.ndarray,
        *,
        pixel_scores: np.ndarray | None = None,
        **more: Any,
    ) -> "Result":
        """Make a result of class ids (H, W), -1 = none; the score of a segment is the mean of its
        pixels' scores."""
        flat = labels.ravel() + 1
        count = len(vocabulary.label_names) + 1
        areas = np.bincount(flat, minlength=count)
        present = [number for number in range(1, count) if areas[number]]
        scores: dict[int, float] = {}
        if pixel_scores is not None:
            sums = np.bincount(flat, weights=pixel_scores.ravel(), minlength=count)
            scores = {number: float(sums[number] / areas[number]) for number in present}
        segments = tuple(
            Segment(number, number - 1, is_object=False, score=scores.get(number))
            for number in present
        )
        ids = flat.reshape(labels.shape).astype(np.int32, copy=False)
        return cls(
            name, image, vocabulary, "semantic", ids, segments, pixel_scores=pixel_scores, **more
        )

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes that ``labels`` and ``class_ids`` count."""
        return self.vocabulary.label_names

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the image."""
        return self.segment_ids.shape[0], self.segment_ids.shape[1]

    @cached_property
    def labels(self) -> np.ndarray:
        """Class id of each pixel, (H, W) int32; -1 = none."""
        last = max((segment.number for segment in self.segments), default=0)
        class_of = np.full(last + 1, NO_CLASS, dtype=np.int32)
        for segment in self.segments:
            class_of[segment.number] = segment.class_id
        class_of[NOTHING] = NO_CLASS
        return class_of[self.segment_ids]

    @property
    def class_ids(self) -> np.ndarray:
        """Class of each segment: (N,) int64."""
        return np.array([segment.class_id for segment in self.segments], dtype=np.int64)

    @property
    def scores(self) -> np.ndarray | None:
        """Score of each segment, 0 to 1: (N,) float32; None of a model that gives none."""
        scores = [segment.score for segment in self.segments]
        if any(score is None for score in scores):
            return None
        return np.array(scores, dtype=np.float32)

    @property
    def track_ids(self) -> np.ndarray | None:
        """Number of each segment's object in its video: (N,) int64; None where not tracked."""
        if not self.tracked:
            return None
        return np.array([segment.number for segment in self.segments], dtype=np.int64)

    def mask(self, index: int) -> np.ndarray:
        """The pixels of segment ``index``, whole where another covers it: (H, W) bool."""
        if self.object_masks is not None:
            return self.object_masks[index]
        return self.segment_ids == self.segments[index].number

    @cached_property
    def masks(self) -> np.ndarray:
        """Masks of all segments, (N, H, W) bool: N times the pixels in bytes; see :meth:`mask`."""
        if self.object_masks is not None:
            return self.object_masks
        masks = [self.mask(index) for index in range(len(self))]
        return np.stack(masks) if masks else np.zeros((0, *self.size), dtype=bool)

    @cached_property
    def boxes(self) -> np.ndarray:
        """Boxes of the masks, x0, y0, x1, y1 in pixels, x1 and y1 exclusive: (N, 4) float32."""
        boxes = np.zeros((len(self), 4), dtype=np.float32)
        for index in range(len(self)):
            mask = self.mask(index)
            rows, columns = mask.any(axis=1).nonzero()[0], mask.any(axis=0).nonzero()[0]
            if len(rows):
                boxes[index] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
        return boxes

    def __len__(self) -> int:
        """The number of segments."""
        return len(self.segments)

    def __repr__(self) -> str:
        present = {self.class_names[segment.class_id]: None for segment in self.segments}
        names = ", ".join([*present][:5]) + (", ..." if len(present) > 5 else "")
        height, width = self.size
        return (
            f"Result({self.name!r}, {self.task}, {width} x {height}, {len(self)} segments: {names})"
        )

    def top_categories(self, count: int = 10) -> list[tuple[str, float]]:
        """The most probable classes by ``category_scores``, best first; none without RankSeg."""
        if self.category_scores is None:
            return []
        order = np.argsort(-self.category_scores, kind="stable")[:count]
        return [(self.vocabulary.names[i], float(self.category_scores[i])) for i in order]

    # ---- drawn -------------------------------------------------------------------------------

    def regions(self) -> Regions:
        """What is drawn onto the image: a colour a class, and of objects one each."""
        if self.task == "semantic":
            return replace(class_regions(self.labels, self.vocabulary), ignore_label=NO_CLASS)
        # Without tracks the ids change from frame to frame, and colours would flicker.
        tell_apart = self.frame is None or self.tracked
        return segment_regions(
            self.segment_ids, self.segments, self.vocabulary, tell_apart=tell_apart
        )

    def overlay(self, *, alpha: float = 0.55) -> Image.Image:
        """The image with colours, borders and names; ``alpha`` is the weight of the colours."""
        return Image.fromarray(draw_regions(self.image, self.regions(), alpha=alpha))

    def legend(self) -> Image.Image:
        """Colour, name and share of each class or object in the image, the largest first."""
        return Image.fromarray(regions_legend(self.regions()))
