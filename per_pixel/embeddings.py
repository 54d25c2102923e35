"""ESSNet's head: embeddings of pixels and of classes; a pixel belongs to the nearest class.

The width of its maps is that of an embedding, whatever the number of classes.

Source: Jain et al., "Scaling Semantic Segmentation Beyond 1K Classes on a Single GPU", ICCV 2021.

Shapes: B images, K classes, d dimensions of an embedding, (h, w) the decoder's map, (H, W) the
labels, P pixels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .heads import DecodeHead, PixelScores
from .losses import at_least_float32, resize
from .neighbours import (
    BLOCK,
    check_negatives,
    check_neighbours,
    check_own_class,
    margin_loss,
    nearest_classes,
    neighbour_cross_entropy,
    squared_distances,
)


@dataclass(frozen=True)
class Comparison:
    """How training compares pixels and classes.

    Attributes:
        neighbours: number of classes that a pixel is compared with beside its own one.
        scale: of distances in the logits, in inference too.
        margin: distance of two classes from which on they cost nothing.
        margin_weight: of that loss; 0: none.
        own_class, negatives: see :func:`neighbour_cross_entropy`.
    """

    neighbours: int = 7
    scale: float = 20.0
    margin: float = 0.2
    margin_weight: float = 1.0
    own_class: str = "released"
    negatives: str = "nearest"

    def __post_init__(self) -> None:
        check_own_class(self.own_class)
        check_negatives(self.negatives)


class EmbeddingHead(DecodeHead):
    """A decoder of maps, the embeddings of its pixels, and a table of class embeddings.

    Attributes:
        pixel_proj: a 1x1 convolution, C -> d.
        embedding_table: K rows of d dimensions.
    """

    scores_classes = False

    def __init__(
        self,
        decoder: nn.Module,
        num_classes: int,
        dim: int,
        comparison: Comparison,
        *,
        in_features: Sequence[str],
        dropout: float = 0.0,
        normalise: bool = True,
        align_corners: bool = False,
    ) -> None:
        """
        Args:
            decoder: maps, the finest first, -> a map (B, C, h, w).
            num_classes: K.
            dim: d.
            comparison: of the training.
            in_features: names of the backbone's maps, the finest first.
            dropout: probability that a channel of the decoder's map is dropped in training.
            normalise: embeddings have length 1: those of pixels before they are resized.
            align_corners: resize maps with aligned corners.

        Raises:
            UserError: there are not as many classes as ``comparison`` needs.
        """
        super().__init__()
        check_neighbours(comparison.neighbours, num_classes)
        self.num_classes, self.comparison = num_classes, comparison
        self.in_features = tuple(in_features)
        self.normalise, self.align_corners = normalise, align_corners
        self.decoder, self.dropout = decoder, nn.Dropout2d(dropout)
        self.pixel_proj = nn.Conv2d(decoder.channels, dim, kernel_size=1)
        self.embedding_table = nn.Embedding(num_classes, dim)
        nn.init.uniform_(self.embedding_table.weight, -1.0, 1.0)

    @property
    def num_columns(self) -> int:
        return self.embedding_table.embedding_dim

    def classes(self) -> Tensor:
        """Return the embeddings of the classes (K, d)."""
        table = self.embedding_table.weight
        return F.normalize(table, dim=1) if self.normalise else table

    def forward(self, features: dict[str, Tensor], present: Tensor | None = None) -> PixelScores:
        """See :meth:`DecodeHead.forward`; the columns are the dimensions of the embeddings."""
        maps = [features[name] for name in self.in_features]
        pixels = self.pixel_proj(self.dropout(self.decoder(maps)))
        if not self.normalise:
            return PixelScores(pixels)
        return PixelScores(F.normalize(at_least_float32(pixels), dim=1))

    def losses(
        self, features: dict[str, Tensor], labels: Tensor, present: Tensor
    ) -> tuple[dict[str, Tensor], PixelScores]:
        """See :meth:`DecodeHead.losses`: ``loss_ce``, a mean over labelled pixels, and
        ``loss_margin`` of the classes."""
        found, classes, how = self(features), self.classes(), self.comparison
        pixels = resize(found.scores, labels.shape[-2:], self.align_corners)
        losses = {
            "loss_ce": neighbour_cross_entropy(
                pixels.movedim(1, -1).flatten(0, 2),
                classes,
                labels.flatten(),
                k=how.neighbours,
                scale=how.scale,
                own_class=how.own_class,
                negatives=how.negatives,
            )
        }
        if how.margin_weight:
            losses["loss_margin"] = how.margin_weight * margin_loss(classes, how.margin)
        return losses, found

    def nearest(self, pixels: Tensor) -> Tensor:
        """Return the nearest class of every pixel, its prediction: (N, d) -> (N,) int64."""
        return nearest_classes(pixels, self.classes(), 1)[:, 0]

    @torch.no_grad()
    def class_scores(self, columns: Tensor, ids: Tensor) -> Callable[[Tensor], Tensor]:
        """See :meth:`DecodeHead.class_scores`: the softmax of the scaled distances to all classes.

        Args:
            columns: (d, P), embeddings of pixels.
            ids: (d,), all columns.
        """
        pixels, table = columns.T, self.classes().to(columns.dtype)

        def logits(classes: Tensor) -> Tensor:
            distances = squared_distances(classes, pixels).clamp_(min=0).sqrt_()
            return distances.mul_(-self.comparison.scale)

        normalizer = columns.new_full(columns.shape[1:], -torch.inf)
        for part in table.split(max(1, BLOCK // max(1, len(pixels)))):
            normalizer = torch.logaddexp(normalizer, logits(part).logsumexp(dim=0))

        def probabilities(classes: Tensor) -> Tensor:
            return logits(table[classes]).sub_(normalizer).exp_()

        return probabilities
