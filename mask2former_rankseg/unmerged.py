"""Un-merged predictions of the queries for an image, which are scored a window at a time.

Shapes: Q queries, C classes, (h, w) the map of the mask logits, (H, W) the prediction.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from segcore.inference.windows import Window, WindowResize

from .inference import ImageSizes, class_probabilities


@dataclass(frozen=True)
class UnmergedQueries:
    """A :class:`segcore.inference.unmerged.UnmergedPrediction` of the size of the decoder's output.

    Attributes:
        weights: class probabilities (Q, C).
        mask_logits: (Q, h, w).
        sizes: of the image.
        classes: ids (n,) of the classes that can have a score.
        category_scores: probabilities (C,) of RankSeg that a class is in the image; None without.
        resize_scores: see :func:`.inference.weighted_masks`.
    """

    weights: Tensor
    mask_logits: Tensor
    sizes: ImageSizes
    classes: Tensor
    category_scores: Tensor | None = None
    resize_scores: bool = False

    @property
    def num_classes(self) -> int:
        """C."""
        return self.weights.shape[1]

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.sizes.prediction

    def window_scores(self, window: Window) -> Callable[[Tensor], Tensor]:
        """Return a function from classes (t,) to their scores (t, height, width) in the window."""
        shrink = WindowResize(self.sizes.image, self.sizes.prediction, window)
        enlarge = WindowResize(self.mask_logits.shape[-2:], self.sizes.padded, shrink.needs)
        masks = enlarge(enlarge.needs.of(self.mask_logits))
        masks = shrink(masks.sigmoid()) if self.resize_scores else shrink(masks).sigmoid_()
        masks = masks.flatten(1)
        return lambda classes: (self.weights[:, classes].T @ masks).unflatten(1, window.size)


def unmerged_queries(model: nn.Module, items: list[dict]) -> list[UnmergedQueries]:
    """Return the un-merged predictions of a ``MaskFormer``; see its ``forward`` for the input."""
    images = model.to_batch(items)
    class_logits, mask_logits, ranked = model.predict(images.tensor, items)
    return [
        UnmergedQueries(
            class_probabilities(class_logits[i]),
            mask_logits[i].float(),
            ImageSizes.of(images.tensor.shape[-2:], images.image_sizes[i], item),
            model.scored_classes(None if ranked is None else ranked.selected[i]),
            None if ranked is None else ranked.category_logits[i].float().sigmoid(),
            model.tasks.resize_scores,
        )
        for i, item in enumerate(items)
    ]
