"""Merge the logits of an image's crops to scores of its pixels, a window at a time.

Source: CAT-Seg (CVPR 2024), section 3.4.

A window needs the crops that overlap it, and of each crop the classes that it kept. So memory
depends neither on the number of crops nor on the size of the vocabulary.

Shapes: K classes that a crop kept, t classes of a chunk, (H, W) the prediction.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from segcore.inference.predictions import SemanticPrediction
from segcore.inference.windows import Window, WindowResize
from segcore.memory import Chunk, batches_crops

from .patches import PatchPlan, WholeImage

MAX_WINDOW = 512  # side of a window on a CPU, where crops are freed as early as possible
GPU_WINDOW = 2048  # on a GPU a few large kernels are faster than many small ones


@dataclass(frozen=True)
class CropLogits:
    """Logits of one crop.

    Attributes:
        logits: (K, h, w).
        classes: ids (K,) of the kept classes, ascending; the others have score 0.
    """

    logits: Tensor
    classes: Tensor

    def scores(
        self, classes: Tensor, side: int | None, size: tuple[int, int], window: Window
    ) -> tuple[Tensor, Tensor]:
        """Score a window of the crop, for those of ``classes`` (t,) that it kept.

        Args:
            classes: ids, ascending.
            side: of the crop; logits are resized to it before the sigmoid. None: they are not.
            size: (height, width) to which the scores are resized.
            window: the part of ``size`` to compute.
        Returns:
            Indices (k,) in ``classes``, and scores (k, h, w).
        """
        row = torch.searchsorted(self.classes, classes).clamp(max=len(self.classes) - 1)
        indices = (self.classes[row] == classes).nonzero()[:, 0]
        grid = self.logits.shape[-2:]
        sides = grid if side is None else (side, side)
        stretch = WindowResize(sides, size, window)
        enlarge = WindowResize(grid, sides, stretch.needs)
        logits = enlarge(enlarge.needs.of(self.logits)[row[indices]])
        return indices, stretch(logits.sigmoid_())


@dataclass(frozen=True)
class UnmergedCrops:
    """A :class:`segcore.inference.unmerged.UnmergedPrediction`: all crops of an image.

    Attributes:
        crops: by index in the plan.
        plan: of the crops.
        size: (H, W).
        num_classes: T.
        category_scores: (T,), of a ranking, that a class is in the image; None without.
    """

    crops: Mapping[int, CropLogits]
    plan: PatchPlan | WholeImage
    size: tuple[int, int]
    num_classes: int
    category_scores: Tensor | None = None

    @property
    def classes(self) -> Tensor:
        """Return the ids of the classes that any crop kept."""
        return torch.cat([crop.classes for crop in self.crops.values()]).unique()

    def window_scores(self, window: Window) -> Callable[[Tensor], Tensor]:
        """Return a function from classes (t,) to their scores (t, h, w) in the window."""
        resize = WindowResize(self.plan.size, self.size, window)
        return lambda classes: resize(merged_window(self.crops, self.plan, classes, resize.needs))


def merge_crops(
    crops: Iterator[CropLogits],
    plan: PatchPlan | WholeImage,
    size: tuple[int, int],
    prediction: SemanticPrediction,
    elements: Chunk,
) -> None:
    """Fill ``prediction`` with the scores of an image, in [0, 1].

    Args:
        crops: in the order of the plan; each is read as late and freed as early as possible.
        plan: of the crops.
        size: (H, W).
        prediction: of that size.
        elements: classes times pixels per chunk.
    """
    windows = list(_windows(plan, size, batches_crops(prediction.device)))
    resizes = [WindowResize(plan.size, size, window) for window in windows]
    needed = [plan.crops_within(resize.needs) for resize in resizes]
    last_use = {crop: i for i, indices in enumerate(needed) for crop in indices}
    held: dict[int, CropLogits] = {}
    incoming = enumerate(crops)
    for i, (window, resize) in enumerate(zip(windows, resizes, strict=True)):
        while not held.keys() >= set(needed[i]):
            held.update([next(incoming)])
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
    """Return the scores of a window for the next chunk of ``classes``."""
    height, width = resize.needs.size
    classes = classes[: max(elements.size // (height * width), 1)]
    return resize(merged_window(crops, plan, classes, resize.needs))


def merged_window(
    crops: Mapping[int, CropLogits],
    plan: PatchPlan | WholeImage,
    classes: Tensor,
    window: Window,
) -> Tensor:
    """Return scores (t, h, w) of ``classes`` (t,) in a window of the plan's image.

    Tiles are averaged where they overlap, and the result is averaged with the global view.
    """
    total = torch.zeros(len(classes), *window.size, device=classes.device)
    tiles = [index for index in plan.crops_within(window) if plan.tile_window(index)]
    if tiles:
        count = torch.zeros(window.size, device=classes.device)
        for index in tiles:
            tile = plan.tile_window(index)
            inner = window.within(tile)
            in_window, in_tile = inner.seen_from(window), inner.seen_from(tile)
            indices, scores = crops[index].scores(classes, plan.tile, tile.size, in_tile)
            in_window.of(total).index_add_(0, indices, scores)
            in_window.of(count).add_(1)
        total /= count
    if plan.global_view:
        indices, scores = crops[0].scores(classes, plan.tile, plan.size, window)
        total.index_add_(0, indices, scores)
    return total / 2 if tiles and plan.global_view else total


def _windows(plan: PatchPlan | WholeImage, size: tuple[int, int], on_gpu: bool) -> Iterator[Window]:
    """Yield windows of ``size`` that start where tiles start, row-major.

    On a CPU as many as possible, sides <= MAX_WINDOW; on a GPU as few, sides <= GPU_WINDOW.
    """
    rows, columns = (
        _cuts(starts, side, target, on_gpu)
        for starts, side, target in zip(plan.starts, plan.size, size, strict=True)
    )
    for top, bottom in itertools.pairwise(rows):
        for left, right in itertools.pairwise(columns):
            yield Window(top, bottom, left, right)


def _cuts(starts: Sequence[int], side: int, target: int, on_gpu: bool) -> list[int]:
    """Return the positions 0 ... target where windows begin and end."""
    longest = GPU_WINDOW if on_gpu else MAX_WINDOW
    marks = sorted({round(start * target / side) for start in starts} | {target})
    cuts = [0]
    for first, last in itertools.pairwise(marks):
        if on_gpu and len(cuts) > 1 and last - cuts[-2] <= longest:
            cuts[-1] = last  # the window before reaches as far
            continue
        parts = -(-(last - first) // longest)
        cuts += [first + (last - first) * (i + 1) // parts for i in range(parts)]
    return cuts
