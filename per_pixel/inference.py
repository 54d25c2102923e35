"""Segment whole images, or sliding windows of them, without a map of all classes at all pixels.

The un-merged prediction of an image holds the small maps of scores that the decode head returned
for each of its crops. They are resized, averaged and turned into probabilities a window at a time.

Shapes: K classes, n columns of scores, (h, w) the map of a crop, (H, W) the prediction.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from segcore.inference.predictions import PredictionKind
from segcore.inference.sliding import Sliding
from segcore.inference.unmerged import mean_prediction, small_windows
from segcore.inference.windows import Window, WindowResize
from segcore.rankseg.scores import DROPPED

from .heads import DecodeHead, PixelScores

LABELS = PredictionKind("labels")
PIXELS = 1 << 21  # of the crops that pass through the network at a time; 8 of 512 x 512

Size = tuple[int, int]


@dataclass(frozen=True)
class Crop:
    """The scores of a part of an image.

    Attributes:
        window: the part, in the padded image.
        scores: (n, h, w) float32.
        columns: (n,), which of the decode head's columns they are, ascending.
        category_scores: (K,) probabilities of RankSeg that a class is in the crop; None without.
    """

    window: Window
    scores: Tensor
    columns: Tensor
    category_scores: Tensor | None

    def restricted(self, allowed: Tensor) -> "Crop":
        """Return the crop without the columns of other classes than ``allowed``, (K,) bool; with
        its first column where none is left."""
        kept = allowed[self.columns]
        kept[0] |= ~kept.any()
        return replace(self, scores=self.scores[kept], columns=self.columns[kept])


@dataclass(frozen=True)
class UnmergedPixels:
    """A :class:`segcore.inference.unmerged.UnmergedPrediction`, as small as the maps of its crops.

    Attributes:
        head: the decode head, which turns columns into probabilities.
        crops: of the image, at least one; every pixel of the image is in one.
        image_size: (height, width) of the image without padding.
        size: (H, W).
        classes: ids (m,) of the classes that can have a score.
        align_corners: of the resizing.
    """

    head: DecodeHead
    crops: Sequence[Crop]
    image_size: Size
    size: Size
    classes: Tensor
    align_corners: bool = False

    @property
    def num_classes(self) -> int:
        """K."""
        return self.head.num_classes

    @property
    def category_scores(self) -> Tensor | None:
        """Of every class the maximum over the crops, (K,); None without RankSeg."""
        if self.crops[0].category_scores is None:
            return None
        return torch.stack([crop.category_scores for crop in self.crops]).amax(dim=0)

    @property
    def category_ids(self) -> Tensor:
        """Classes that RankSeg selected in any crop, (m,), the most probable first."""
        order = self.category_scores[self.classes].argsort(descending=True, stable=True)
        return self.classes[order]

    def window_scores(self, window: Window) -> Callable[[Tensor], Tensor]:
        """Return a function from classes (t,) to their scores (t, height, width) in the window."""
        scores = self.head.class_scores(self._merged(window).flatten(1), self._columns)
        return lambda classes: scores(classes).unflatten(1, window.size)

    def prediction(self, kind: PredictionKind) -> dict[str, Tensor]:
        """Return the requested output; see :meth:`SemanticPrediction.result`.

        Labels alone need no probabilities.
        """
        if kind != LABELS or not len(self.classes):
            return mean_prediction([self], kind)
        labels = torch.empty(self.size, dtype=torch.long, device=self.classes.device)
        for window in small_windows(self.size, len(self._columns)):
            merged = self._merged(window).flatten(1)
            found = self.head.labels(merged, self._columns, self.classes)
            window.of(labels).copy_(found.view(window.size))
        return {"sem_seg_labels": labels}

    @cached_property
    def _columns(self) -> Tensor:
        """The columns of all crops, ascending."""
        return torch.cat([crop.columns for crop in self.crops]).unique()

    def _merged(self, window: Window) -> Tensor:
        """Return the columns in a window of the prediction: (n, height, width)."""
        to_size = WindowResize(self.image_size, self.size, window, self.align_corners)
        return to_size(self._merge(to_size.needs, self._columns))

    def _merge(self, window: Window, columns: Tensor) -> Tensor:
        """Average the crops' maps in a window of the image: (n, height, width).

        A column that a crop lacks counts ``DROPPED`` there.
        """
        parts = [part for crop in self.crops if (part := self._part(crop, window, columns))]
        if len(parts) == 1:
            return parts[0][1]
        total = parts[0][1].new_zeros(len(columns), *window.size)
        count = total.new_zeros(window.size)
        for covered, scores in parts:
            covered.of(total).add_(scores)
            covered.of(count).add_(1)
        return total.div_(count)

    def _part(self, crop: Crop, window: Window, columns: Tensor) -> tuple[Window, Tensor] | None:
        """Return where a crop covers a window of the image, as seen from it, and its scores there:
        (n, height, width); None where it does not."""
        covered = crop.window.within(window)
        if covered is None:
            return None
        inside = covered.seen_from(crop.window)
        enlarge = WindowResize(crop.scores.shape[-2:], crop.window.size, inside, self.align_corners)
        scores = enlarge(enlarge.needs.of(crop.scores))
        if len(scores) < len(columns):
            everything = scores.new_full((len(columns), *covered.size), DROPPED)
            rows = torch.searchsorted(columns, crop.columns)
            scores = everything.index_copy_(0, rows, scores)
        return covered.seen_from(window), scores


def predict_crops(
    predict: Callable[[Tensor, Sequence[int]], PixelScores],
    images: Sequence[Tensor],
    sliding: Sliding,
    num_columns: int,
) -> list[list[Crop]]:
    """Return the crops of every image; crops of one size pass through the network together.

    Args:
        predict: a function from crops (b, 3, H, W), and the indices of their images, to scores.
        images: normalised, (3, H, W) of any sizes.
        sliding: how they are divided.
        num_columns: of the decode head.
    """
    images = [sliding.pad(image) for image in images]
    waiting: dict[Size, list[tuple[int, Window]]] = defaultdict(list)
    for index, image in enumerate(images):
        for window in sliding.windows(tuple(image.shape[-2:])):
            waiting[window.size].append((index, window))
    crops: list[list[Crop]] = [[] for _ in images]
    for (height, width), group in waiting.items():
        at_once = max(PIXELS // (height * width), 1)
        for start in range(0, len(group), at_once):
            batch = group[start : start + at_once]
            pixels = torch.stack([window.of(images[index]) for index, window in batch])
            scores = predict(pixels, [index for index, _ in batch])
            for number, (index, window) in enumerate(batch):
                crops[index].append(_crop(window, scores, number, num_columns))
    return crops


def _crop(window: Window, scores: PixelScores, number: int, num_columns: int) -> Crop:
    """Return one crop of a batch: its columns in ascending order, without those that are
    ``DROPPED`` at every pixel."""
    maps, categories = scores.scores[number].float(), scores.category_logits
    if scores.classes is None:
        columns = torch.arange(num_columns, device=maps.device)
    else:
        columns, order = scores.classes[number].sort()
        maps = maps[order]
    kept = (maps != DROPPED).flatten(1).any(dim=1)
    categories = None if categories is None else categories[number].float().sigmoid()
    return Crop(window, maps[kept], columns[kept], categories)
