"""ESSNet's loss in Segmenter: a pixel is compared with its own class and its nearest ones.

The mask transformer compares pixels and classes in a space of few dimensions. Its normalised
cosines are the scores; unlike in ESSNet itself there is neither a scale nor a margin.

Source: He et al., "RankSeg", ECCV 2022, comparison with ESSNet, and its published code.

Shapes: B images, K classes, k nearest classes, (h, w) the map of the scores, (H, W) the labels.
"""

from typing import Any

from torch import Tensor
from torch.utils.checkpoint import checkpoint

from segcore.rankseg.scores import DROPPED

from .heads import PixelScores
from .losses import number_of_pixels, resize, sample
from .neighbours import check_neighbours, check_own_class, own_and_nearest
from .segmenter import SegmenterHead


class EssnetSegmenterHead(SegmenterHead):
    """Trains the scores of each pixel's own and nearest classes; keeps the nearest to predict."""

    def __init__(
        self, *args: Any, neighbours: int, own_class: str = "released", **kwargs: Any
    ) -> None:
        """
        Args:
            neighbours: k, 1 ... K - 1.
            own_class: see :func:`per_pixel.neighbours.own_and_nearest`.
            args, kwargs: see :class:`SegmenterHead`.

        Raises:
            UserError: there are not so many classes, or no such form.
        """
        super().__init__(*args, **kwargs)
        check_neighbours(neighbours, self.num_classes)
        check_own_class(own_class)
        self.neighbours, self.own_class = neighbours, own_class

    def forward(self, features: dict[str, Tensor], present: Tensor | None = None) -> PixelScores:
        """See :meth:`DecodeHead.forward`; the other classes of a pixel are ``DROPPED``."""
        scores = super().forward(features).scores
        near = scores.topk(self.neighbours, dim=1)
        dropped = scores.new_full(scores.shape, DROPPED)
        return PixelScores(dropped.scatter(1, near.indices, near.values))

    def losses(
        self, features: dict[str, Tensor], labels: Tensor, present: Tensor
    ) -> tuple[dict[str, Tensor], PixelScores]:
        """See :meth:`DecodeHead.losses`."""
        found, how = super().forward(features), self.criterion
        scores = found.scores
        if how.sampled < 1:
            scores, labels = sample(scores, labels, how.sampled, how.align_corners)
        # The scores of all classes at the size of the labels exist for one image at a time, and
        # are computed again for the gradient.
        sums = [
            checkpoint(self._sum_of_losses, *image, use_reentrant=False, preserve_rng_state=False)
            for image in zip(scores, labels, strict=True)
        ]
        valid = (labels >= 0) & (labels < self.num_classes)
        loss = sum(sums) / number_of_pixels(valid, how.pixels)
        return {"loss_ce": loss}, found

    def compared_scores(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Return the scores of the own class, then of the k nearest ones, of all valid pixels.

        Args:
            scores: (K, h, w).
            labels: (H, W); values outside 0 ... K - 1 are ignored.
        Returns:
            (P, k + 1) of the P other pixels, row by row.
        """
        maps = resize(scores[None], labels.shape, self.criterion.align_corners)[0]
        valid = (labels >= 0) & (labels < self.num_classes)
        scores = maps[:, valid].T
        ids = own_and_nearest(
            lambda n: scores.detach().topk(n, dim=1).indices,
            labels[valid],
            self.neighbours,
            self.own_class,
        )
        return scores.gather(1, ids)

    def _sum_of_losses(self, scores: Tensor, labels: Tensor) -> Tensor:
        return -self.compared_scores(scores, labels).log_softmax(dim=1)[:, 0].sum()
