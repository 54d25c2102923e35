"""Masked-attention transformer decoder: queries attend inside their mask of the previous layer.

Source: Cheng et al., "Masked-attention Mask Transformer for Universal Image Segmentation", CVPR
2022; for clips, "Mask2Former for Video Instance Segmentation", 2021 (arXiv:2112.10764).

Shapes: B images or clips, T frames of a clip, Q queries, C classes, D the width of queries and
features, (h, w) the map of the mask features, S tokens of a level, of all its frames.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcore.rankseg.layers import sine_positions


class Decoded(NamedTuple):
    """Output of the decoder.

    Attributes:
        predictions: class logits (B, Q, C + 1), the last one "no object", and mask logits
            (B, Q, h, w), of clips (B, Q, T, h, w); from the learnable query features first, from
            the last layer last, or that one alone.
        states: the queries (B, Q, D) after every layer.
    """

    predictions: list[tuple[Tensor, Tensor]]
    states: list[Tensor]


class Attention(nn.Module):
    """Multi-head attention with one attention mask for all heads."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
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
        x = F.scaled_dot_product_attention(q, k, v, mask)
        return self.out_proj(x.transpose(1, 2).flatten(2))


class DecoderLayer(nn.Module):
    """Masked cross-attention, self-attention and feed-forward network, each with post-norm."""

    def __init__(self, width: int, num_heads: int, feedforward: int) -> None:
        super().__init__()
        self.cross_attention = Attention(width, num_heads)
        self.cross_norm = nn.LayerNorm(width)
        self.self_attention = Attention(width, num_heads)
        self.self_norm = nn.LayerNorm(width)
        self.linear1 = nn.Linear(width, feedforward)
        self.linear2 = nn.Linear(feedforward, width)
        self.norm = nn.LayerNorm(width)
        for linear in (self.linear1, self.linear2):
            nn.init.xavier_uniform_(linear.weight)

    def forward(
        self, x: Tensor, query_embed: Tensor, key: Tensor, value: Tensor, attend: Tensor
    ) -> Tensor:
        """x (B, Q, D), query_embed (Q, D), key and value (B, S, D), attend (B, Q, S) -> like x."""
        x = self.cross_norm(x + self.cross_attention(x + query_embed, key, value, attend))
        query = x + query_embed
        x = self.self_norm(x + self.self_attention(query, query, x))
        return self.norm(x + self.linear2(F.relu(self.linear1(x))))


class MaskedDecoder(nn.Module):
    """Layers that attend to the feature levels in turn, with class and mask heads after each.

    The queries attend to all frames of a clip at once: a query represents one object in all of
    them.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        width: int = 256,
        mask_width: int = 256,
        num_queries: int = 100,
        num_layers: int = 9,
        num_heads: int = 8,
        feedforward: int = 2048,
        num_levels: int = 3,
        cosine_classes: bool = False,
    ) -> None:
        """
        Args:
            num_classes: C.
            width: D.
            mask_width: channels of the mask features.
            num_queries: Q.
            num_layers, num_heads, feedforward: of the transformer.
            num_levels: number of feature levels.
            cosine_classes: class logits are cosines, without a bias.
        """
        super().__init__()
        self.cosine_classes = cosine_classes
        self.query_feat = nn.Embedding(num_queries, width)
        self.query_embed = nn.Embedding(num_queries, width)
        self.level_embed = nn.Embedding(num_levels, width)
        self.layers = nn.ModuleList(
            DecoderLayer(width, num_heads, feedforward) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.classifier = nn.Linear(width, num_classes + 1, bias=not cosine_classes)
        self.mask_embed = nn.Sequential(
            *(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()),
            nn.Linear(width, mask_width),
        )

    def forward(
        self, levels: Sequence[Tensor], mask_features: Tensor, every_layer: bool
    ) -> Decoded:
        """
        Args:
            levels: feature maps (B, D, h_i, w_i), of clips (B, D, T, h_i, w_i), coarsest first.
            mask_features: (B, mask_width, h, w), of clips (B, mask_width, T, h, w).
            every_layer: predict after every layer, not after the last one alone.
        """
        memory = [self._memory(i, level) for i, level in enumerate(levels)]
        # Resizing is linear: masks at the size of a level are those of features at that size.
        coarse = [resize(mask_features.detach(), level.shape[-2:]).flatten(2) for level in levels]
        query_embed = self.query_embed.weight
        x = self.query_feat.weight.expand(len(mask_features), -1, -1)
        predictions, states = [], []
        for i, layer in enumerate([*self.layers, None]):
            y = self.norm(x)
            embedding = self.mask_embed(y)
            if every_layer or layer is None:
                masks = torch.einsum("bqc,bc...->bq...", embedding, mask_features)
                predictions.append((self.class_logits(y), masks))
            if layer is not None:
                level = i % len(memory)
                attend = inside_mask(embedding, coarse[level])
                x = layer(x, query_embed, *memory[level], attend)
                states.append(x)
        return Decoded(predictions, states)

    def class_logits(self, y: Tensor) -> Tensor:
        """Classify normalised queries: (B, Q, D) -> (B, Q, C + 1)."""
        if self.cosine_classes:
            return F.linear(F.normalize(y, dim=-1), F.normalize(self.classifier.weight, dim=-1))
        return self.classifier(y)

    def _memory(self, level: int, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values (B, S, D) of a level; keys have positional encodings."""
        channels, *size = features.shape[1:]
        value = features.flatten(2).transpose(1, 2) + self.level_embed.weight[level]
        with features.device:
            positions = sine_positions(*size[-2:], channels)
            if len(size) == 3:
                positions = (clip_positions(size[0], channels)[:, None] + positions).flatten(0, 1)
        return value + positions.to(value.dtype), value


def clip_positions(num_frames: int, channels: int) -> Tensor:
    """Return temporal positional encodings (num_frames, channels), with the sines used for rows."""
    return sine_positions(num_frames, 1, 2 * channels)[:, :channels]


@torch.no_grad()
def inside_mask(embedding: Tensor, features: Tensor) -> Tensor:
    """Return the attention masks; a query whose mask is empty may attend everywhere.

    Args:
        embedding: mask embeddings of the queries (B, Q, mask_width).
        features: mask features (B, mask_width, S).
    Returns:
        (B, Q, S) bool.
    """
    inside = embedding @ features >= 0
    return inside | ~inside.any(dim=-1, keepdim=True)


def resize(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Resize maps (B, ..., H, W) to (B, ..., *size), bilinear."""
    resized = F.interpolate(maps.flatten(1, -3), tuple(size), mode="bilinear", align_corners=False)
    return resized.unflatten(1, maps.shape[1:-2])
