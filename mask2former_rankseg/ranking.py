"""RankSeg on object queries: select the top-kappa classes of the image, and classify among them.

The multi-label head reads the queries (Mask2Former) or the mask features (MaskFormer).

Source: He et al., "RankSeg: Adaptive Pixel Classification with Image Category Ranking for
Segmentation", ECCV 2022.

Shapes: B images, Q queries, D their width, C classes, kappa selected classes, L positions.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from segcore.errors import UserError
from segcore.rankseg.oracle import oracle_logits
from segcore.rankseg.ranker import Ranker
from segcore.rankseg.scores import RankScores, gather_columns
from segcore.rankseg.selection import with_no_object

from .queries import Decoded

STATE = 2  # the multi-label head reads the queries after the third layer
POOLED = 8  # or it reads mask features, 1/4 of the image's size, as 1/32: section 3.2 and figure 8d


def third_queries(decoded: Decoded) -> Tensor:
    """Return the queries (B, Q, D) after the third layer."""
    return decoded.states[STATE]


def pooled_pixels(decoded: Decoded) -> Tensor:
    """Return the mask features (B, L, D), averaged over cells of 8 x 8, row by row."""
    size = [-(-side // POOLED) for side in decoded.mask_features.shape[-2:]]
    return F.adaptive_avg_pool2d(decoded.mask_features, size).flatten(2).transpose(1, 2)


class Ranked(NamedTuple):
    """Class logits of the selected classes, in the order of their ranks.

    Attributes:
        logits: of every prediction, (B, Q, kappa + 1), the last one "no object".
        selected: (B, kappa), the classes of the columns.
        category_logits: (B, C) of the multi-label head, or the oracle's.
    """

    logits: list[Tensor]
    selected: Tensor
    category_logits: Tensor


class QueryRanking(Ranker):
    """A multi-label head on the queries, and rank-adaptive scores shared by all predictions."""

    def __init__(
        self,
        head: nn.Module | None,
        scores: RankScores,
        *,
        kappa: int,
        test_kappa: int,
        confidence: float = 0.0,
        share_classes: bool = False,
        features: Callable[[Decoded], Tensor] = third_queries,
    ) -> None:
        """
        Args:
            head: features (B, L, D) -> logits (B, C); this and the others are those of
                :class:`Ranker`.
            share_classes: the head uses the classifier's class embeddings.
            features: the decoder's output -> the features.
        """
        super().__init__(head, scores, kappa=kappa, test_kappa=test_kappa, confidence=confidence)
        self.share_classes = share_classes
        self.features = features

    def forward(
        self,
        decoded: Decoded,
        logits: Sequence[Tensor],
        class_embeddings: Tensor,
        present: Tensor | None,
    ) -> Ranked:
        """Select classes and reorder the class logits by rank.

        Args:
            decoded: the decoder's output.
            logits: class logits (B, Q, C + 1) of every prediction.
            class_embeddings: (C, D), weights of the classifier.
            present: (B, C) bool, the classes of the ground truth, for the oracle.
        """
        if self.head is None:
            category_logits = oracle_logits(present)
        else:
            shared = (class_embeddings,) if self.share_classes else ()
            category_logits = self.head(self.features(decoded), *shared)
        selected, kept = self.select(category_logits)
        columns = with_no_object(selected, category_logits.shape[1])
        ranked = [self.scores(gather_columns(classes, columns), kept) for classes in logits]
        return Ranked(ranked, selected, category_logits)


def check_layers(num_layers: int) -> None:
    """Refuse a decoder without the layer that the multi-label head reads.

    Raises:
        UserError: there are fewer than three layers.
    """
    if num_layers <= STATE:
        raise UserError(
            f"RankSeg reads the queries after layer {STATE + 1} of the decoder, which has "
            f"{num_layers}: set MODEL.MASK_FORMER.DEC_LAYERS to {STATE + 2} or more, or "
            "MODEL.RANKSEG.FLAG False"
        )
