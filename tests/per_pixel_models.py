"""Very small per-pixel models, whose decode heads are the family's, for the tests of its shell."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from per_pixel import PerPixelSegmenter
from per_pixel.classifier import LinearClassifier, PixelHead, RankedClassifier
from per_pixel.criterion import Criterion
from per_pixel.embeddings import Comparison, EmbeddingHead
from per_pixel.inference import Sliding
from per_pixel.ranking import PixelRanking
from segcore.rankseg.heads import build_multilabel_head
from segcore.rankseg.scores import build_rank_scores

CLASSES, WIDTH, STRIDE = 7, 8, 4


class Backbone(nn.Module):
    """One convolution of stride 4 over any size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, WIDTH, 2 * STRIDE, STRIDE, STRIDE // 2)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        images = F.pad(images, (0, -images.shape[3] % STRIDE, 0, -images.shape[2] % STRIDE))
        return {"res2": self.conv(images).tanh()}


class First(nn.Module):
    """A decoder that returns the first map."""

    channels = WIDTH

    def forward(self, maps: list[Tensor]) -> Tensor:
        return maps[0]


def embedding_head() -> EmbeddingHead:
    """Embeddings with as many dimensions as there are classes, which are no scores of these."""
    comparison = Comparison(neighbours=3)
    return EmbeddingHead(First(), CLASSES, CLASSES, comparison, in_features=["res2"])


def ranked_head(oracle: bool = False, **options: Any) -> PixelHead:
    """RankSeg over ``CLASSES``; the options of a :class:`PixelRanking`."""
    options = {"kappa": 3, "test_kappa": 3, **options}
    head = None if oracle else build_multilabel_head("gap", WIDTH, CLASSES, hidden_dim=16)
    scores = build_rank_scores("norm", options["kappa"], no_object=False)
    classifier = RankedClassifier(WIDTH, CLASSES, PixelRanking(head, scores, **options))
    with torch.no_grad():
        classifier.class_table *= 30
        if head is not None:
            head.classifier.weight *= 20
        scores.weight += torch.rand(len(scores.weight))
    criterion = Criterion(multilabel_weight=0.0 if oracle else 2.0)
    return PixelHead(First(), classifier, criterion, in_features=["res2"], dropout=0.0)


def linear_head(weight: float = 5.0) -> PixelHead:
    """A linear classifier of ``CLASSES``."""
    classifier = LinearClassifier(WIDTH, CLASSES)
    with torch.no_grad():
        classifier.linear.weight.normal_(std=weight)
    return PixelHead(First(), classifier, Criterion(), in_features=["res2"], dropout=0.0)


HEADS = {
    "linear": linear_head,
    "rankseg": ranked_head,
    "dynamic kappa": lambda: ranked_head(test_kappa=6, confidence=0.5),
    "oracle": lambda: ranked_head(oracle=True),
    "embeddings": embedding_head,
}


def model(head: str = "linear", *, auxiliary: bool = False, **options: Any) -> PerPixelSegmenter:
    """Build a model with one of ``HEADS``, always with the same weights.

    Args:
        head: its name.
        auxiliary: add an auxiliary head.
        options: of :class:`PerPixelSegmenter`; "window", "stride" and "canvas" are those of
            :class:`Sliding`.
    """
    torch.manual_seed(0)
    sizes = {name: options.pop(name) for name in ("window", "stride", "canvas") if name in options}
    return PerPixelSegmenter(
        backbone=Backbone(),
        decode_head=HEADS[head](),
        auxiliary_head=linear_head() if auxiliary else None,
        auxiliary_weight=0.4 if auxiliary else 0.0,
        sliding=Sliding(**sizes),
        oracle=head == "oracle",
        pixel_mean=[120.0, 110.0, 100.0],
        pixel_std=[60.0, 58.0, 57.0],
        **options,
    ).eval()
