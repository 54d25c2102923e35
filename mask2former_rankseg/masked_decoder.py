"""Masked-attention transformer decoder: queries attend inside their mask of the previous layer.

Source: Cheng et al., "Masked-attention Mask Transformer for Universal Image Segmentation", CVPR
2022; for clips, "Mask2Former for Video Instance Segmentation", 2021 (arXiv:2112.10764).

Shapes: B images or clips, T frames of a clip, Q queries, C classes, D the width of queries and
features, (h, w) the map of the mask features, S tokens of a level, of all its frames.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcore.rankseg.layers import sine_positions

from .queries import Decoded, DecoderLayer, QueryDecoder, mask_logits


class MaskedDecoder(QueryDecoder):
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
        super().__init__(num_classes, width, mask_width, cosine_classes)
        self.query_feat = nn.Embedding(num_queries, width)
        self.query_embed = nn.Embedding(num_queries, width)
        self.level_embed = nn.Embedding(num_levels, width)
        self.layers = nn.ModuleList(
            DecoderLayer(width, num_heads, feedforward) for _ in range(num_layers)
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
                predictions.append((self.class_logits(y), mask_logits(embedding, mask_features)))
            if layer is not None:
                level = i % len(memory)
                attend = inside_mask(embedding, coarse[level])
                x = layer(x, query_embed, *memory[level], attend)
                states.append(x)
        return Decoded(predictions, states, mask_features)

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
