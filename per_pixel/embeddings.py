"""ESSNet's head: embeddings of pixels and of classes; a pixel belongs to the nearest class.

The width of its maps is that of an embedding, whatever the number of classes.

Source: Jain et al., "Scaling Semantic Segmentation Beyond 1K Classes on a Single GPU", ICCV 2021.

Shapes: B images, K classes, d dimensions of an embedding, (h, w) the decoder's map, (H, W) the
labels, P pixels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcore.errors import UserError
from segcore.inference.precision import at_least_float32

from . import search
from .heads import DecodeHead, PixelScores
from .losses import at_pixels
from .neighbours import (
    check_negatives,
    check_neighbours,
    check_own_class,
    margin_loss,
    neighbour_cross_entropy,
)
from .search import Nearest, Search, class_embeddings, nearest_classes, squared_distances


@dataclass(frozen=True)
class Comparison:
    """How training compares pixels and classes.

    Attributes:
        neighbours: number of classes that a pixel is compared with beside its own one.
        scale: of distances in the logits, in inference too.
        margin: distance of two classes from which on they cost nothing.
        margin_weight: of that loss; 0: none.
        own_class, negatives: see :func:`neighbour_cross_entropy`.
        search: of the nearest classes of pixels and, for the margin, of classes.
        search_fraction: share of the pixels whose nearest classes are searched for; the others are
            compared with those of a pixel beside them. 1 / 4 is one of four consecutive pixels.
        sampled: share of the pixels, drawn at random, that have a loss; below 1 they have no
            neighbours to share a search with.
    """

    neighbours: int = 7
    scale: float = 20.0
    margin: float = 0.2
    margin_weight: float = 1.0
    own_class: str = "released"
    negatives: str = "nearest"
    search: Search = field(default_factory=Search)
    search_fraction: float = 1.0
    sampled: float = 1.0

    def __post_init__(self) -> None:
        check_own_class(self.own_class)
        check_negatives(self.negatives)
        if not 0 < self.search_fraction <= 1 or abs(self.share * self.search_fraction - 1) > 1e-3:
            raise UserError(
                f"MODEL.ESSNET.SEARCH_FRACTION is {self.search_fraction:g}: use 1.0, or 1 divided "
                "by a whole number, as 0.5, 0.25 or 0.125"
            )
        if self.sampled < 1 and self.share > 1:
            raise UserError(
                "MODEL.ESSNET.SEARCH_FRACTION below 1 shares a search among consecutive pixels: "
                "use MODEL.PER_PIXEL.SAMPLED_PIXELS 1.0 with it"
            )

    @property
    def share(self) -> int:
        """Number of pixels that are compared with the same classes beside their own ones."""
        return round(1 / self.search_fraction)


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
        test_search: Search | None = None,
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
            test_search: of the nearest class of pixels in inference; None: exact.

        Raises:
            UserError: there are not as many classes as ``comparison`` or a search needs.
        """
        super().__init__()
        check_neighbours(comparison.neighbours, num_classes)
        self.test_search = test_search or Search()
        for each in (comparison.search, self.test_search):
            each.check_classes(num_classes)
        self.num_classes, self.comparison = num_classes, comparison
        self.in_features = tuple(in_features)
        self.normalise, self.align_corners = normalise, align_corners
        self.decoder, self.dropout = decoder, nn.Dropout2d(dropout)
        self.pixel_proj = nn.Conv2d(decoder.channels, dim, kernel_size=1)
        self.embedding_table = nn.Embedding(num_classes, dim)
        nn.init.uniform_(self.embedding_table.weight, -1.0, 1.0)
        # The embeddings of the classes that inference has seen last, and the search among them.
        self._searched: tuple[Tensor, Nearest] | None = None

    @property
    def num_columns(self) -> int:
        return self.embedding_table.embedding_dim

    def classes(self) -> Tensor:
        """Return the embeddings of the classes (K, d)."""
        return class_embeddings(self.embedding_table.weight, self.normalise)

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
        found, table, how = self(features), self.embedding_table.weight, self.comparison
        pixels, labels = at_pixels(found.scores, labels, how.sampled, self.align_corners)
        nearest = how.search.among(table, self.normalise)
        options = {"normalise": self.normalise, "nearest": nearest}
        losses = {
            "loss_ce": neighbour_cross_entropy(
                pixels.movedim(1, -1).flatten(0, 2),
                table,
                labels.flatten(),
                k=how.neighbours,
                scale=how.scale,
                own_class=how.own_class,
                negatives=how.negatives,
                share=how.share,
                **options,
            )
        }
        if how.margin_weight:
            losses["loss_margin"] = how.margin_weight * margin_loss(table, how.margin, **options)
        return losses, found

    @torch.no_grad()
    def nearest(self, pixels: Tensor) -> Tensor:
        """Return the nearest class of every pixel, its prediction: (N, d) -> (N,) int64.

        An index over the classes is built once, and again when their embeddings have changed.
        """
        classes = self.classes().detach()
        if self._searched is None or not _equal(self._searched[0], classes):
            self._searched = classes.clone(), self.test_search.among(classes)
        return self._searched[1](pixels, 1)[:, 0]

    @torch.no_grad()
    def labels(self, columns: Tensor, ids: Tensor, classes: Tensor) -> Tensor:
        """See :meth:`DecodeHead.labels`: the nearest of the classes.

        Args:
            columns: (d, P), embeddings of pixels.
            ids: (d,), all columns.
            classes: (m,); the search among some of the classes is exact.
        """
        if len(classes) == self.num_classes:
            return self.nearest(columns.T)
        return classes[nearest_classes(columns.T, self.classes()[classes], 1)[:, 0]]

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
        for part in table.split(max(1, search.BLOCK // max(1, len(pixels)))):
            normalizer = torch.logaddexp(normalizer, logits(part).logsumexp(dim=0))

        def probabilities(classes: Tensor) -> Tensor:
            return logits(table[classes]).sub_(normalizer).exp_()

        return probabilities


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.device == b.device and a.dtype == b.dtype and torch.equal(a, b)
