"""Several views of one image, and the mean of what they say.

A view keeps what a model found before it became scores of pixels: logits of queries, or of crops.
That is small, so all views are held, and the scores of all classes at all pixels never are, as in
a prediction to a single view.

Shapes: T classes, t of them at a time, (H, W) the image, (h, w) a window of it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from segcore.inference.predictions import PredictionKind, SemanticPrediction
from segcore.inference.windows import Window

PIXELS = 1 << 14  # of a window
SCORES = 1 << 21  # that are computed together; a CPU's cache holds as many


class UnmergedPrediction(Protocol):
    """What a model found in one view of an image.

    Attributes:
        num_classes: T.
        size: (H, W) of the prediction.
        classes: ids (n,) of the classes that can have a score; the others have 0.
        category_scores: (T,), that a class is in the image, where the model says so; else None.
    """

    num_classes: int
    size: tuple[int, int]
    classes: Tensor
    category_scores: Tensor | None

    def window_scores(self, window: Window) -> Callable[[Tensor], Tensor]:
        """A function from ids (t,) of classes to their scores (t, h, w) in the window."""


@dataclass(frozen=True)
class Mirrored:
    """A view of the image in a mirror, left and right put back."""

    view: UnmergedPrediction

    def __getattr__(self, name: str) -> object:
        return getattr(self.view, name)

    def window_scores(self, window: Window) -> Callable[[Tensor], Tensor]:
        """See :class:`UnmergedPrediction`."""
        scores = self.view.window_scores(window.mirrored(self.view.size[1]))
        return lambda classes: scores(classes).flip(-1)


def mean_prediction(views: Sequence[UnmergedPrediction], kind: PredictionKind) -> dict[str, Tensor]:
    """The prediction by the mean of the views' scores; see :meth:`SemanticPrediction.result`.

    Args:
        views: of one image, at least one.
        kind: what is asked for.
    """
    first = views[0]
    scored = torch.cat([view.classes for view in views])
    prediction = SemanticPrediction(kind, first.num_classes, first.size, scored.device)
    ids = prediction.order(scored)
    for window in _windows(first.size):
        height, width = window.size
        scorers = [view.window_scores(window) for view in views]
        for classes in ids.split(max(SCORES // (height * width), 1)):
            total = scorers[0](classes)
            for scorer in scorers[1:]:
                total += scorer(classes)
            prediction.add(window, classes, total / len(scorers))
    return prediction.result()


def _windows(size: tuple[int, int]) -> Iterator[Window]:
    """Rows of about ``PIXELS`` together, from the top; of very wide images parts of rows."""
    height, width = size
    columns = min(width, PIXELS)
    rows = max(PIXELS // columns, 1)
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            yield Window(top, min(top + rows, height), left, min(left + columns, width))
