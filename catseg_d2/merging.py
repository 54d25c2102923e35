"""From the logits of an image's crops to the scores of its pixels, a window at a time.

Source: CAT-Seg (CVPR 2024), section 3.4.

A window needs the crops that reach into it and no other, and of each crop the classes that it kept.
So neither the number of crops nor that of words decides how much memory an image takes.

Shapes: K classes that a crop kept, t classes that pass together, (H, W) the prediction.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from segcore.inference.predictions import SemanticPrediction
from segcore.inference.windows import Window, WindowResize

from .memory import Chunk
from .patches import PatchPlan, WholeImage

MAX_WINDOW = 512  # side of a window


@dataclass(frozen=True)
class CropLogits:
    """The prediction of one crop.

    Attributes:
        logits: (K, h, w).
        classes: ids (K,) of the classes that it kept, ascending; the others score 0.
    """

    logits: Tensor
    classes: Tensor

    def scores(
        self, classes: Tensor, side: int | None, size: tuple[int, int], window: Window
    ) -> tuple[Tensor, Tensor]:
        """Scores of a part of the crop, for those of ``classes`` (t,), ascending, that it kept.

        Args:
            classes: ids.
            side: of the crop; logits are brought to it before they become scores. None: they become
                scores as they are.
            size: size to which the scores are resized.
            window: the part of ``size`` that is wanted.
        Returns:
            places in ``classes``, and scores (places, h, w).
        """
        row = torch.searchsorted(self.classes, classes).clamp(max=len(self.classes) - 1)
        places = (self.classes[row] == classes).nonzero()[:, 0]
        grid = self.logits.shape[-2:]
        sides = grid if side is None else (side, side)
        stretch = WindowResize(sides, size, window)
        enlarge = WindowResize(grid, sides, stretch.needs)
        logits = enlarge(enlarge.needs.of(self.logits)[row[places]])
        return places, stretch(logits.sigmoid_())


@dataclass(frozen=True)
class UnmergedCrops:
    """A :class:`segcore.inference.unmerged.UnmergedPrediction`: all crops of an image.

    Attributes:
        crops: by index in the plan.
        plan: how they were cut.
        size: (H, W).
        num_classes: T.
        category_scores: None, for CAT-Seg scores no class of an image as a whole.
    """

    crops: Mapping[int, CropLogits]
    plan: PatchPlan | WholeImage
    size: tuple[int, int]
    num_classes: int
    category_scores: None = None

    @property
    def classes(self) -> Tensor:
        """Ids of the classes that any crop kept."""
        return torch.cat([crop.classes for crop in self.crops.values()]).unique()

    def window_scores(self, window: Window) -> Callable[[Tensor], Tensor]:
        """Classes (t,) -> scores (t, h, w) in the window."""
        resize = WindowResize(self.plan.size, self.size, window)
        return lambda classes: resize(merged_window(self.crops, self.plan, classes, resize.needs))


def merge_crops(
    crops: Iterator[CropLogits],
    plan: PatchPlan | WholeImage,
    size: tuple[int, int],
    prediction: SemanticPrediction,
    elements: Chunk,
) -> None:
    """Fill ``prediction`` with the scores of an image, all of them in [0, 1].

    Args:
        crops: in the order of the plan; drawn as late and let go as soon as can be.
        plan: how the crops were cut.
        size: (H, W).
        prediction: of that size.
        elements: classes times pixels that are merged together.
    """
    windows = list(_windows(plan, size))
    resizes = [WindowResize(plan.size, size, window) for window in windows]
    needed = [plan.crops_within(resize.needs) for resize in resizes]
    last_use = {crop: i for i, indices in enumerate(needed) for crop in indices}
    held: dict[int, CropLogits] = {}
    drawn = enumerate(crops)
    for i, (window, resize) in enumerate(zip(windows, resizes, strict=True)):
        while not held.keys() >= set(needed[i]):
            held.update([next(drawn)])
        kept = torch.cat([held[crop].classes for crop in needed[i]])
        classes = prediction.order(kept)
        while len(classes):
            scores = elements.run(partial(_next_scores, held, plan, classes, resize, elements))
            prediction.add(window, classes[: len(scores)], scores)
            classes = classes[len(scores) :]
        held = {crop: x for crop, x in held.items() if last_use.get(crop, -1) > i}


def _next_scores(
    crops: dict[int, CropLogits],
    plan: PatchPlan | WholeImage,
    classes: Tensor,
    resize: WindowResize,
    elements: Chunk,
) -> Tensor:
    """Scores of a window of the prediction for as many of ``classes`` as pass together."""
    height, width = resize.needs.size
    classes = classes[: max(elements.size // (height * width), 1)]
    return resize(merged_window(crops, plan, classes, resize.needs))


def merged_window(
    crops: Mapping[int, CropLogits],
    plan: PatchPlan | WholeImage,
    classes: Tensor,
    window: Window,
) -> Tensor:
    """Scores (t, h, w) of ``classes`` (t,) in a window of the plan's image.

    Tiles are averaged where they overlap, and the result with the global view.
    """
    total = torch.zeros(len(classes), *window.size, device=classes.device)
    tiles = [index for index in plan.crops_within(window) if plan.place_of(index)]
    if tiles:
        count = torch.zeros(window.size, device=classes.device)
        for index in tiles:
            tile = plan.place_of(index)
            inner = window.within(tile)
            place, part = inner.seen_from(window), inner.seen_from(tile)
            places, scores = crops[index].scores(classes, plan.tile, tile.size, part)
            place.of(total).index_add_(0, places, scores)
            place.of(count).add_(1)
        total /= count
    if plan.global_view:
        places, scores = crops[0].scores(classes, plan.tile, plan.size, window)
        total.index_add_(0, places, scores)
    return total / 2 if tiles and plan.global_view else total


def _windows(plan: PatchPlan | WholeImage, size: tuple[int, int]) -> Iterator[Window]:
    """Parts of ``size`` that begin where tiles begin, row-major, of at most MAX_WINDOW a side."""
    rows, columns = (
        _cuts(starts, side, target)
        for starts, side, target in zip(plan.starts, plan.size, size, strict=True)
    )
    for top, bottom in itertools.pairwise(rows):
        for left, right in itertools.pairwise(columns):
            yield Window(top, bottom, left, right)


def _cuts(starts: Sequence[int], side: int, target: int) -> list[int]:
    """Places 0 ... target where windows begin and end."""
    marks = sorted({round(start * target / side) for start in starts} | {target})
    cuts = [0]
    for first, last in itertools.pairwise(marks):
        parts = -(-(last - first) // MAX_WINDOW)
        cuts += [first + (last - first) * (i + 1) // parts for i in range(parts)]
    return cuts
