"""Select the classes of an image from the logits of a multi-label head: the top kappa, or fewer.

Shapes: B images, C classes, kappa selected classes.
"""

from typing import NamedTuple

from torch import Tensor, nn

from .scores import RankScores
from .selection import confident_ranks, select_top


class Selection(NamedTuple):
    """The selected classes of each image.

    Attributes:
        ids: (B, kappa) int64, the most probable class first.
        kept: (B, kappa) bool, true for a leading run of ranks; None keeps all.
    """

    ids: Tensor
    kept: Tensor | None

    def trimmed(self) -> "Selection":
        """Return the selection without the last ranks that no image keeps."""
        if self.kept is None:
            return self
        columns = int(self.kept.sum(dim=1).max())
        return Selection(self.ids[:, :columns], self.kept[:, :columns])


class Ranker(nn.Module):
    """A multi-label head, the selection by its logits, and rank-adaptive scores."""

    def __init__(
        self,
        head: nn.Module | None,
        scores: RankScores | None,
        *,
        kappa: int,
        test_kappa: int,
        confidence: float = 0.0,
        independent: bool = False,
    ) -> None:
        """
        Args:
            head: features -> logits (B, C), see ``segcore.rankseg.heads``; None is the oracle,
                which selects the classes of the ground truth and no other, or an independent one.
            scores: see ``segcore.rankseg.scores``; None: scores do not depend on the rank.
            kappa, test_kappa: number of selected classes in training and in evaluation.
            confidence: probability below which evaluation drops a selected class; 0 drops none.
            independent: the logits come from another model.
        """
        super().__init__()
        self.head, self.scores = head, scores
        self.kappa, self.test_kappa = kappa, test_kappa
        self.confidence = confidence
        self.oracle = head is None and not independent

    def select(self, category_logits: Tensor) -> Selection:
        """Select classes by the logits (B, C) of the head, the oracle or another model."""
        confidence = 0.0 if self.training else self.confidence
        if self.oracle:
            confidence = 0.5
        ids = select_top(category_logits, self.kappa if self.training else self.test_kappa)
        kept = confident_ranks(category_logits, ids, confidence) if confidence else None
        return Selection(ids, kept)
