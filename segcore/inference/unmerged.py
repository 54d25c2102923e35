"""Average the predictions of several views of one image (test-time augmentation).

An un-merged prediction holds the logits of queries, or of crops, before they become scores of
pixels. It is small, so that those of all views fit in memory; the scores of all classes at all
pixels are never held.

Shapes: T classes, t of them at a time, (H, W) the image, (h, w) a window of it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from segcore.inference.predictions import PredictionKind, SemanticPrediction
from segcore.inference.windows import Window

PIXELS = 1 << 14  # of a window, at most
# Classes times pixels of a window, at most: predictions may hold the scores of all classes there.
VALUES = 1 << 26
SCORES = 1 << 21  # computed at a time; they fit into a CPU's cache


class UnmergedPrediction(Protocol):
    """The prediction for one view of an image, before merging.

    Attributes:
        num_classes: T.
        size: (H, W) of the prediction.
        classes: ids (n,) of the classes that can have a score; the others have 0.
        category_scores: (T,), that a class is in the image, if the model predicts them; else None.
    """

    num_classes: int
    size: tuple[int, int]
    classes: Tensor
    category_scores: Tensor | None

    def window_scores(self, window: Window) -> Callable[[Tensor], Tensor]:
        """Return a function from class ids (t,) to their scores (t, h, w) in the window."""


@dataclass(frozen=True)
class HorizontalFlip:
    """The prediction for a horizontally flipped view, flipped back."""

    view: UnmergedPrediction

    def __getattr__(self, name: str) -> object:
        return getattr(self.view, name)

    def window_scores(self, window: Window) -> Callable[[Tensor], Tensor]:
        """See :class:`UnmergedPrediction`."""
        scores = self.view.window_scores(window.flipped(self.view.size[1]))
        return lambda classes: scores(classes).flip(-1)


def mean_prediction(views: Sequence[UnmergedPrediction], kind: PredictionKind) -> dict[str, Tensor]:
    """Return the prediction of the views' mean scores; see :meth:`SemanticPrediction.result`.

    Args:
        views: of one image, at least one.
        kind: the requested output.
    """
    first = views[0]
    scored = torch.cat([view.classes for view in views])
    prediction = SemanticPrediction(kind, first.num_classes, first.size, scored.device)
    ids = prediction.order(scored)
    for window in small_windows(first.size, len(ids)):
        height, width = window.size
        scorers = [view.window_scores(window) for view in views]
        for classes in ids.split(max(SCORES // (height * width), 1)):
            total = scorers[0](classes)
            for scorer in scorers[1:]:
                total += scorer(classes)
            prediction.add(window, classes, total / len(scorers))
    return prediction.result()


def small_windows(size: tuple[int, int], number: int) -> Iterator[Window]:
    """Yield windows of an image (H, W) with room for ``number`` values at every pixel of one.

    They are full rows from the top, or parts of very wide rows.
    """
    pixels = max(min(PIXELS, VALUES // max(number, 1)), 1)
    height, width = size
    columns = min(width, pixels)
    rows = max(pixels // columns, 1)
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            yield Window(top, min(top + rows, height), left, min(left + columns, width))
