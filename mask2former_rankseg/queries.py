"""What the decoders of object queries share: their layers, and the class and mask heads.

Source: Cheng et al., "Per-Pixel Classification is Not All You Need for Semantic Segmentation",
NeurIPS 2021 (MaskFormer), and "Masked-attention Mask Transformer for Universal Image Segmentation",
CVPR 2022 (Mask2Former).

Shapes: B images or clips, T frames of a clip, Q queries, C classes, D the width of queries and
features, (h, w) the map of the mask features, S tokens that the queries attend to.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Decoded(NamedTuple):
    """Output of a decoder.

    Attributes:
        predictions: class logits (B, Q, C + 1), the last one "no object", and mask logits
            (B, Q, h, w), of clips (B, Q, T, h, w); in the order of the layers, the final one last,
            or that one alone. Those of Mask2Former begin with the learnable query features.
        states: the queries (B, Q, D) after every layer.
        mask_features: (B, mask_width, h, w), of clips (B, mask_width, T, h, w).
    """

    predictions: list[tuple[Tensor, Tensor]]
    states: list[Tensor]
    mask_features: Tensor


class Attention(nn.Module):
    """Multi-head attention with one attention mask for all heads."""

    def __init__(self, width: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = dropout
        self.in_proj = nn.Linear(width, 3 * width)  # queries, keys, values
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj.weight)
        nn.init.xavier_uniform_(self.out_proj.weight)
        nn.init.zeros_(self.in_proj.bias)
        nn.init.zeros_(self.out_proj.bias)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, attend: Tensor | None = None
    ) -> Tensor:
        """
        Args:
            query: (B, Q, D).
            key, value: (B, S, D).
            attend: attention mask (B, Q, S) bool, true where a query may attend; None: everywhere.
        Returns:
            (B, Q, D).
        """
        weights, biases = self.in_proj.weight.chunk(3), self.in_proj.bias.chunk(3)
        q, k, v = (
            F.linear(x, weight, bias).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for x, weight, bias in zip((query, key, value), weights, biases, strict=True)
        )
        mask = None if attend is None else attend[:, None]
        dropout = self.dropout if self.training else 0.0
        x = F.scaled_dot_product_attention(q, k, v, mask, dropout_p=dropout)
        return self.out_proj(x.transpose(1, 2).flatten(2))


class DecoderLayer(nn.Module):
    """Cross-attention, self-attention and feed-forward network, each with post-norm."""

    def __init__(
        self,
        width: int,
        num_heads: int,
        feedforward: int,
        *,
        dropout: float = 0.0,
        self_first: bool = False,
    ) -> None:
        """
        Args:
            width: D.
            num_heads, feedforward, dropout: of the attention and the feed-forward network.
            self_first: the self-attention precedes the cross-attention, as in DETR.
        """
        super().__init__()
        self.self_first = self_first
        self.cross_attention = Attention(width, num_heads, dropout)
        self.cross_norm = nn.LayerNorm(width)
        self.self_attention = Attention(width, num_heads, dropout)
        self.self_norm = nn.LayerNorm(width)
        self.linear1 = nn.Linear(width, feedforward)
        self.linear2 = nn.Linear(feedforward, width)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        for linear in (self.linear1, self.linear2):
            nn.init.xavier_uniform_(linear.weight)

    def forward(
        self,
        x: Tensor,
        query_embed: Tensor,
        key: Tensor,
        value: Tensor,
        attend: Tensor | None = None,
    ) -> Tensor:
        """x (B, Q, D), query_embed (Q, D), key and value (B, S, D), attend (B, Q, S) -> like x."""
        if self.self_first:
            x = self._among_queries(x, query_embed)
        attended = self.cross_attention(x + query_embed, key, value, attend)
        x = self.cross_norm(x + self.dropout(attended))
        if not self.self_first:
            x = self._among_queries(x, query_embed)
        change = self.linear2(self.dropout(F.relu(self.linear1(x))))
        return self.norm(x + self.dropout(change))

    def _among_queries(self, x: Tensor, query_embed: Tensor) -> Tensor:
        query = x + query_embed
        return self.self_norm(x + self.dropout(self.self_attention(query, query, x)))


class QueryDecoder(nn.Module):
    """Base of the decoders: a norm, the classifier and the MLP of the mask embeddings.

    Attributes:
        norm: of the queries before both heads.
        classifier: D -> C + 1.
        mask_embed: three layers, D -> mask_width.
    """

    def __init__(self, num_classes: int, width: int, mask_width: int, cosine_classes: bool) -> None:
        """
        Args:
            num_classes: C.
            width: D.
            mask_width: channels of the mask features.
            cosine_classes: class logits are cosines, without a bias.
        """
        super().__init__()
        self.cosine_classes = cosine_classes
        self.norm = nn.LayerNorm(width)
        self.classifier = nn.Linear(width, num_classes + 1, bias=not cosine_classes)
        self.mask_embed = nn.Sequential(
            *(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()),
            nn.Linear(width, mask_width),
        )

    def class_logits(self, y: Tensor) -> Tensor:
        """Classify normalised queries: (B, Q, D) -> (B, Q, C + 1)."""
        if self.cosine_classes:
            return F.linear(F.normalize(y, dim=-1), F.normalize(self.classifier.weight, dim=-1))
        return self.classifier(y)


def mask_logits(embedding: Tensor, mask_features: Tensor) -> Tensor:
    """Return the products of mask embeddings and mask features.

    Args:
        embedding: (B, Q, mask_width).
        mask_features: (B, mask_width, h, w), of clips (B, mask_width, T, h, w).
    Returns:
        (B, Q, h, w), of clips (B, Q, T, h, w).
    """
    return torch.einsum("bqc,bc...->bq...", embedding, mask_features)
