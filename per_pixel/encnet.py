"""Context encoding: the image as a whole scales the channels of its pixels (EncNet).

Source: Zhang et al., "Context Encoding for Semantic Segmentation", CVPR 2018; in Segmenter as in
the comparison of He et al., "RankSeg", ECCV 2022.

Shapes: B images, D channels, (h, w) the map, L = h * w pixels, C codewords, K classes.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .heads import PixelScores
from .segmenter import SegmenterHead


class Encoding(nn.Module):
    """Residuals between pixels and codewords, summed with the weights of a soft assignment.

    Attributes:
        codewords: (C, D).
        smoothing: (C,), factors on the squared distances, negative at first.
    """

    def __init__(self, width: int, num_codes: int) -> None:
        super().__init__()
        bound = (num_codes * width) ** -0.5
        self.codewords = nn.Parameter(torch.empty(num_codes, width).uniform_(-bound, bound))
        self.smoothing = nn.Parameter(torch.empty(num_codes).uniform_(-1, 0))

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels (B, L, D) -> (B, C, D)."""
        # |x - c|^2 and sum(w (x - c)) by products, so that no (B, L, C, D) tensor exists.
        lengths = pixels.square().sum(dim=-1, keepdim=True) + self.codewords.square().sum(dim=-1)
        distances = lengths - 2 * pixels @ self.codewords.T
        weights = (self.smoothing * distances).softmax(dim=-1)
        return weights.transpose(1, 2) @ pixels - weights.sum(dim=1)[..., None] * self.codewords


class ContextEncoding(nn.Module):
    """A convolution, a code of the whole image, and the channels scaled by it."""

    def __init__(self, width: int, channels: int, num_codes: int, num_classes: int) -> None:
        """
        Args:
            width: of the backbone's map.
            channels: D.
            num_codes: C.
            num_classes: K.
        """
        super().__init__()
        self.bottleneck = nn.Conv2d(width, channels, kernel_size=3, padding=1)
        self.projection = nn.Conv2d(channels, channels, kernel_size=1)
        self.encoding = Encoding(channels, num_codes)
        self.norm = nn.BatchNorm1d(num_codes)
        self.gate = nn.Linear(channels, channels)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scaled maps (B, D, h, w) and logits (B, K) of the classes in the image."""
        x = self.bottleneck(maps).relu()
        codes = self.encoding(self.projection(x).relu().flatten(2).transpose(1, 2))
        code = self.norm(codes).relu().mean(dim=1)
        gate = self.gate(code).sigmoid()[..., None, None]
        return (x + x * gate).relu(), self.classifier(code)


def context_loss(logits: Tensor, present: Tensor) -> Tensor:
    """Return the mean binary cross-entropy of logits (B, K) and present classes (B, K) bool."""
    return F.binary_cross_entropy_with_logits(logits.float(), present.float())


class EncNetSegmenterHead(SegmenterHead):
    """The mask transformer on maps whose channels the context encoding scales."""

    def __init__(
        self, context: ContextEncoding, *args: Any, context_weight: float = 0.2, **kwargs: Any
    ) -> None:
        """
        Args:
            context: maps of the backbone -> maps of the width that the mask transformer reads.
            context_weight: of the loss of the image's classes.
            args, kwargs: see :class:`SegmenterHead`.
        """
        super().__init__(*args, **kwargs)
        self.context, self.context_weight = context, context_weight

    def forward(self, features: dict[str, Tensor], present: Tensor | None = None) -> PixelScores:
        """See :meth:`DecodeHead.forward`."""
        return self._encode(features)[0]

    def losses(
        self, features: dict[str, Tensor], labels: Tensor, present: Tensor
    ) -> tuple[dict[str, Tensor], PixelScores]:
        """See :meth:`DecodeHead.losses`."""
        found, logits = self._encode(features)
        losses = self.criterion(found, labels, present)
        losses["loss_context"] = self.context_weight * context_loss(logits, present)
        return losses, found

    def _encode(self, features: dict[str, Tensor]) -> tuple[PixelScores, Tensor]:
        """Return the scores, and logits (B, K) of the classes in the image."""
        maps, logits = self.context(features[self.feature])
        return super().forward({**features, self.feature: maps}), logits
