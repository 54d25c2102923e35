"""Classify the pixels of a decoder's map: linearly, or among the classes that RankSeg selects.

Shapes: B images, K classes, kappa selected classes, C channels of the map, (h, w) its size.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .criterion import Criterion
from .heads import DecodeHead, PixelScores
from .ranking import PixelRanking


class LinearClassifier(nn.Module):
    """A linear score of every class.

    Attributes:
        linear: a 1x1 convolution, C -> K.
    """

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.linear = nn.Conv2d(channels, num_classes, kernel_size=1)
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)

    def forward(self, pixels: Tensor, features: Tensor, present: Tensor | None) -> PixelScores:
        """Score ``pixels`` (B, C, h, w); the others are those of :class:`RankedClassifier`."""
        return PixelScores(self.linear(pixels))


class RankedClassifier(nn.Module):
    """Linear scores of the selected classes alone, which depend on their rank (RankSeg).

    Attributes:
        class_table: (1, K, C), one row a class.
        class_bias: (1, K).
        ranking: selects classes and adjusts scores to ranks.
    """

    def __init__(self, channels: int, num_classes: int, ranking: PixelRanking) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.class_table = nn.Parameter(torch.empty(1, num_classes, channels))
        self.class_bias = nn.Parameter(torch.empty(1, num_classes))
        for values in (self.class_table, self.class_bias):
            nn.init.trunc_normal_(values, std=0.02)
        self.ranking = ranking

    def forward(self, pixels: Tensor, features: Tensor, present: Tensor | None) -> PixelScores:
        """
        Args:
            pixels: the decoder's map (B, C, h, w).
            features: the backbone's map (B, D, h', w') that the selection is based on.
            present: (B, K), see :meth:`DecodeHead.forward`.
        """
        ranked = self.ranking(features, self.class_table, present)
        ids, kept = ranked.selection
        bias = self.class_bias.expand(len(ids), -1).gather(1, ids)
        scores = torch.einsum("bchw,bnc->bhwn", pixels, ranked.rows) + bias[:, None, None]
        scores = self.ranking.scores(scores, kept).movedim(-1, 1)
        return PixelScores(scores, ids, ranked.category_logits)


class PixelHead(DecodeHead):
    """A decoder of maps, and a classifier of its pixels."""

    def __init__(
        self,
        decoder: nn.Module,
        classifier: LinearClassifier | RankedClassifier,
        criterion: Criterion,
        *,
        in_features: Sequence[str],
        dropout: float = 0.1,
    ) -> None:
        """
        Args:
            decoder: maps, the finest first, -> a map (B, C, h, w).
            classifier: of the pixels of that map. RankSeg selects by the last map.
            criterion: the training losses.
            in_features: names of the backbone's maps, the finest first.
            dropout: probability that a channel of the decoder's map is dropped in training.
        """
        super().__init__()
        self.num_classes = classifier.num_classes
        self.in_features = tuple(in_features)
        self.decoder, self.classifier = decoder, classifier
        self.dropout = nn.Dropout2d(dropout)
        self.criterion = criterion

    def forward(self, features: dict[str, Tensor], present: Tensor | None = None) -> PixelScores:
        """See :meth:`DecodeHead.forward`."""
        maps = [features[name] for name in self.in_features]
        return self.classifier(self.dropout(self.decoder(maps)), maps[-1], present)

    def losses(
        self, features: dict[str, Tensor], labels: Tensor, present: Tensor
    ) -> tuple[dict[str, Tensor], PixelScores]:
        """See :meth:`DecodeHead.losses`."""
        found = self(features, present)
        return self.criterion(found, labels, present), found
