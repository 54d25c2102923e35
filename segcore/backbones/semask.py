"""SeMask: a Swin Transformer whose stages end with attention to semantic maps.

Source: Jain et al., "SeMask: Semantically Masked Transformers for Semantic Segmentation", ICCV
Workshops 2023 (arXiv:2112.12782), section 3, and its released code.

Shapes: B images, (H, W) a feature map, C its width, K classes, N tokens of a window, nW windows.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .swin import SwinTransformer, from_windows, initialise_linear, to_windows

# Classes for which the released code attends over the whole map in the last stage.
WHOLE_MAP_CLASSES = 150


class SeMaskSwin(SwinTransformer):
    """Swin with a :class:`SemanticLayer` after the blocks of every stage."""

    def __init__(
        self,
        width: int,
        depths: Sequence[int],
        num_heads: Sequence[int],
        window: int,
        *,
        num_classes: int,
        semantic_window: int,
        whole_last_map: bool,
        **options: Any,
    ) -> None:
        """
        Args:
            width, depths, num_heads, window, options: of :class:`SwinTransformer`.
            num_classes: K.
            semantic_window: side of the windows of the semantic layers.
            whole_last_map: the layer of the last stage attends over the whole map, not in windows.
                The released code does so for ``WHOLE_MAP_CLASSES`` classes, as ADE20K has, and for
                no other number.
        """
        super().__init__(width, depths, num_heads, window, **options)
        last = len(depths) - 1
        for stage, layer in enumerate(self.layers):
            side = None if whole_last_map and stage == last else semantic_window
            layer.semantic_layer = SemanticLayer(self.widths[stage], num_classes, side)
            layer.semantic_layer.apply(initialise_linear)

    def forward(self, images: Tensor) -> list[Tensor]:
        """See :meth:`SwinTransformer.forward`."""
        return self.semantic_maps(images)[0]

    def semantic_maps(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Return the feature maps, and the semantic map (B, K, H, W) of every stage."""
        semantic = []

        def refine(stage: int, x: Tensor) -> Tensor:
            x, logits = self.layers[stage].semantic_layer(x)
            semantic.append(logits)
            return x

        return self.feature_maps(images, refine), semantic


class SemanticLayer(nn.Module):
    """Attention in class space: queries and keys of a token are logits of the K classes."""

    def __init__(
        self, width: int, num_classes: int, window: int | None, dropout: float = 0.1
    ) -> None:
        """
        Args:
            width: C.
            num_classes: K.
            window: side of the windows that tokens attend in; None: the whole map.
            dropout: probability, in training.
        """
        super().__init__()
        self.window = window
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, num_classes)
        self.key = nn.Linear(width, num_classes)
        self.value = nn.Linear(width, width)
        self.proj = nn.Linear(width, width)
        self.gamma = nn.Parameter(torch.zeros(1))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, H, W, C) -> the same shape, and the semantic map (B, K, H, W).

        The layer goes on from the normalised tokens, as in the released code. Maps are padded with
        zeros to whole windows; padding counts.
        """
        x = self.norm(x)
        height, width = x.shape[1:3]
        if self.window is None:
            size, tokens = (height, width), x.flatten(1, 2)[:, None]
        else:
            padded = F.pad(x, (0, 0, 0, -width % self.window, 0, -height % self.window))
            size, tokens = padded.shape[1:3], to_windows(padded, self.window)
        logits = self.query(tokens)  # (B, nW, N, K)
        change = F.scaled_dot_product_attention(
            logits, self.key(tokens), self.value(tokens), scale=1.0
        )
        change, logits = (self._to_map(part, size)[:, :height, :width] for part in (change, logits))
        return x + self.gamma * self.dropout(self.proj(change)), logits.permute(0, 3, 1, 2)

    def _to_map(self, tokens: Tensor, size: Sequence[int]) -> Tensor:
        """(B, nW, N, D) -> (B, *size, D)."""
        if self.window is None:
            return tokens[:, 0].unflatten(1, tuple(size))
        return from_windows(tokens, size, self.window)


def merge_semantic_maps(maps: Sequence[Tensor]) -> Tensor:
    """Sum the semantic maps of the stages at the size of the images: logits (B, K, 4 H, 4 W).

    Args:
        maps: (B, K, H, W), and of every further stage about half that size. They are doubled once
            per stage before, bilinear with aligned corners, and then have the size of the first.
    """
    total = maps[0]
    for doublings, logits in enumerate(maps[1:], start=1):
        for _ in range(doublings):
            logits = _enlarge(logits, 2)
        size = maps[0].shape[-2:]
        total = total + F.interpolate(logits, size, mode="bilinear", align_corners=True)
    return _enlarge(total, 4)


def _enlarge(maps: Tensor, factor: int) -> Tensor:
    return F.interpolate(maps, scale_factor=factor, mode="bilinear", align_corners=True)
