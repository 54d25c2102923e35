"""What every decode head is: feature maps in, scores of classes at every pixel out.

Shapes: B images, K classes, n columns of scores (K, or kappa selected classes), (h, w) the map of
the scores, (H, W) the labels.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from segcore.rankseg.scores import DROPPED


class PixelScores(NamedTuple):
    """Scores of classes at every pixel of a map.

    Attributes:
        scores: (B, n, h, w) logits.
        classes: (B, n) int64, the class of every column, each at most once an image; None: all
            classes in order.
        category_logits: (B, K) of RankSeg's multi-label head, the oracle or an independent
            classifier; None without.
    """

    scores: Tensor
    classes: Tensor | None = None
    category_logits: Tensor | None = None


class DecodeHead(nn.Module):
    """Base of the decode heads.

    Attributes:
        num_classes: K.
        num_columns: of the maps that inference resizes and averages over windows: K, or the width
            of an embedding.
        scores_classes: whether a column is the score of a class, not a dimension of an embedding.
    """

    num_classes: int
    scores_classes = True

    @property
    def num_columns(self) -> int:
        return self.num_classes

    def forward(self, features: dict[str, Tensor], present: Tensor | None = None) -> PixelScores:
        """
        Args:
            features: maps of the backbone by name.
            present: (B, K); for the oracle bool, the classes of the ground truth; in the
                independent scheme the logits of a classifier, by which classes are selected.
        """
        raise NotImplementedError

    def losses(
        self, features: dict[str, Tensor], labels: Tensor, present: Tensor
    ) -> tuple[dict[str, Tensor], PixelScores]:
        """Return the weighted training losses by name, and the scores for logging.

        Args:
            features: maps of the backbone by name.
            labels: (B, H, W) int64; values outside 0 ... K - 1 are ignored.
            present: (B, K) bool, the classes of the labels; in the independent scheme the logits
                of a classifier.
        """
        raise NotImplementedError

    def class_scores(self, columns: Tensor, ids: Tensor) -> Callable[[Tensor], Tensor]:
        """Return a function from class ids (t,) to their probabilities (t, P) at P pixels.

        By default the columns are logits of classes, and the probabilities their softmax over all
        classes, in which a class without a column has the logit ``DROPPED``.

        Args:
            columns: (n, P), the merged maps of ``scores`` at these pixels, float32, n > 0.
            ids: (n,), which of the ``num_columns`` columns they are, ascending.
        """
        normalizer = columns.logsumexp(dim=0)
        if others := self.num_classes - len(ids):
            dropped = normalizer.new_tensor(DROPPED + math.log(others))
            normalizer = torch.logaddexp(normalizer, dropped)
        rows = ids.new_full((self.num_classes,), -1)
        rows[ids] = torch.arange(len(ids), device=ids.device)

        def probabilities(classes: Tensor) -> Tensor:
            row = rows[classes]
            logits = columns[row.clamp(min=0)].masked_fill_((row < 0)[:, None], DROPPED)
            return logits.sub_(normalizer).exp_()

        return probabilities

    def labels(self, columns: Tensor, ids: Tensor, classes: Tensor) -> Tensor:
        """Return the class with the greatest probability at P pixels, (P,) int64, without the
        probabilities.

        By default the columns are logits of classes; the lowest of equal ones is returned.

        Args:
            columns, ids: see :meth:`class_scores`.
            classes: (m,), m > 0, those that can have a score, ascending; by default those with a
                column.
        """
        return ids[columns.argmax(dim=0)]
