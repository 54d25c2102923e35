"""Segment an image by sliding windows, whose scores are averaged where they overlap.

Shapes: C classes, (H, W) the prediction.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from segcore.inference.windows import Window, WindowResize

from .inference import ImageSizes
from .unmerged import UnmergedQueries, unmerged_queries

PIXELS = 1 << 21  # of the windows that pass through the network at a time; 2 of 896 x 896


@dataclass(frozen=True)
class UnmergedWindows:
    """A :class:`segcore.inference.unmerged.UnmergedPrediction`: the queries of every window.

    Attributes:
        windows: of the image, at least one; every pixel of the image is in one.
        queries: the prediction of each window, of its size.
        image_size: (height, width) of the image.
        size: (H, W).
    """

    windows: Sequence[Window]
    queries: Sequence[UnmergedQueries]
    image_size: tuple[int, int]
    size: tuple[int, int]

    @property
    def num_classes(self) -> int:
        """C."""
        return self.queries[0].num_classes

    @property
    def classes(self) -> Tensor:
        """Ids (n,) of the classes that can have a score in any window."""
        return torch.cat([queries.classes for queries in self.queries]).unique()

    @property
    def category_scores(self) -> Tensor | None:
        """Of every class the maximum over the windows, (C,); None without RankSeg."""
        if self.queries[0].category_scores is None:
            return None
        return torch.stack([queries.category_scores for queries in self.queries]).amax(dim=0)

    @property
    def category_ids(self) -> Tensor:
        """Classes that RankSeg selected in any window, (n,), the most probable first."""
        order = self.category_scores[self.classes].argsort(descending=True, stable=True)
        return self.classes[order]

    def window_scores(self, window: Window) -> Callable[[Tensor], Tensor]:
        """Return a function from classes (t,) to their scores (t, height, width) in a window of the
        prediction."""
        to_size = WindowResize(self.image_size, self.size, window)
        needs = to_size.needs
        count = torch.zeros(needs.size, device=self.queries[0].weights.device)
        parts = []
        for frame, queries in zip(self.windows, self.queries, strict=True):
            if (covered := frame.within(needs)) is not None:
                inside = covered.seen_from(needs)
                inside.of(count).add_(1)
                parts.append((inside, queries.window_scores(covered.seen_from(frame))))

        def scores(classes: Tensor) -> Tensor:
            total = count.new_zeros(len(classes), *needs.size)
            for inside, of_window in parts:
                inside.of(total).add_(of_window(classes))
            return to_size(total.div_(count))

        return scores


def unmerged_windows(model: nn.Module, item: dict) -> UnmergedWindows:
    """Return the un-merged prediction of the windows of ``model.sliding``.

    Args:
        model: a ``MaskFormer``.
        item: an image; see its ``forward``.
    """
    image = item["image"]
    size = tuple(image.shape[-2:])
    windows = model.sliding.windows(size)
    height, width = windows[0].size  # that of all
    crop = item | {"height": height, "width": width}
    crops = [crop | {"image": window.of(image)} for window in windows]
    at_once = max(PIXELS // (height * width), 1)
    queries: list[UnmergedQueries] = []
    for start in range(0, len(crops), at_once):
        queries += unmerged_queries(model, crops[start : start + at_once])
    return UnmergedWindows(windows, queries, size, ImageSizes.of(size, size, item).prediction)
