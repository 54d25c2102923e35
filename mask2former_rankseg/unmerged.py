"""What queries find in an image, to be looked at a window at a time.

Shapes: Q queries, C classes, (h, w) the map of the mask logits, (H, W) the prediction.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from segcore.inference.windows import Window, WindowResize

from .inference import Frame, class_probabilities


@dataclass(frozen=True)
class UnmergedQueries:
    """A :class:`segcore.inference.unmerged.UnmergedPrediction` as small as what the decoder gives.

    Attributes:
        weights: (Q, C) class probabilities.
        mask_logits: (Q, h, w).
        frame: size and place of the image.
        classes: ids (n,) of the classes that can have a score.
        category_scores: (C,) of RankSeg, that a class is in the image; None without it.
    """

    weights: Tensor
    mask_logits: Tensor
    frame: Frame
    classes: Tensor
    category_scores: Tensor | None = None

    @property
    def num_classes(self) -> int:
        """C."""
        return self.weights.shape[1]

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        return self.frame.prediction

    def window_scores(self, window: Window) -> Callable[[Tensor], Tensor]:
        """Classes (t,) -> scores (t, height, width) in the window."""
        shrink = WindowResize(self.frame.image, self.frame.prediction, window)
        enlarge = WindowResize(self.mask_logits.shape[-2:], self.frame.padded, shrink.needs)
        masks = shrink(enlarge(enlarge.needs.of(self.mask_logits))).sigmoid_().flatten(1)
        return lambda classes: (self.weights[:, classes].T @ masks).unflatten(1, window.size)


def unmerged_queries(model: nn.Module, item: dict) -> UnmergedQueries:
    """What a ``MaskFormer`` finds in an image; see its ``forward`` for the input."""
    images = model.to_batch([item])
    class_logits, mask_logits, ranked = model.predict(images.tensor, [item])
    return UnmergedQueries(
        class_probabilities(class_logits[0]),
        mask_logits[0].float(),
        Frame.of(images.tensor.shape[-2:], images.image_sizes[0], item),
        model.scored_classes(None if ranked is None else ranked.selected[0]),
        None if ranked is None else ranked.category_logits[0].float().sigmoid(),
    )
