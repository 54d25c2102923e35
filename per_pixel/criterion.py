"""The training losses of scores of pixels, and of RankSeg's multi-label head.

Shapes: B images, K classes, (H, W) the labels.
"""

from dataclasses import dataclass

from torch import Tensor

from segcore.rankseg.labels import pixels_to_ranks
from segcore.rankseg.losses import asymmetric_loss

from .heads import PixelScores
from .losses import IGNORED, check_pixels, pixel_loss


@dataclass(frozen=True)
class Criterion:
    """
    Attributes:
        pixels: see :func:`pixel_loss`.
        align_corners: resize scores to the labels with aligned corners.
        sampled: see :func:`pixel_loss`.
        multilabel_weight: of the multi-label loss; 0: none.
        gammas: its focusing exponents of absent and of present classes.
    """

    pixels: str = "all"
    align_corners: bool = False
    sampled: float = 1.0
    multilabel_weight: float = 0.0
    gammas: tuple[float, float] = (2.0, 0.0)

    def __post_init__(self) -> None:
        check_pixels(self.pixels)

    def __call__(self, found: PixelScores, labels: Tensor, present: Tensor) -> dict[str, Tensor]:
        """Return the weighted losses.

        Args:
            found: the scores.
            labels: (B, H, W) int64; values outside 0 ... K - 1 are ignored, and with RankSeg
                classes that are not selected.
            present: (B, K) bool, the classes of the labels.
        Returns:
            ``loss_ce`` of the pixels; with a multi-label head ``loss_ml``.
        """
        targets = labels
        if found.classes is not None:
            targets = pixels_to_ranks(labels, found.classes, present.shape[1], IGNORED)
        loss = pixel_loss(
            found.scores,
            targets,
            pixels=self.pixels,
            align_corners=self.align_corners,
            sampled=self.sampled,
        )
        losses = {"loss_ce": loss}
        if self.multilabel_weight and found.category_logits is not None:
            negative, positive = self.gammas
            loss = asymmetric_loss(
                found.category_logits, present, gamma_neg=negative, gamma_pos=positive
            )
            losses["loss_ml"] = self.multilabel_weight * loss
        return losses
