"""Pixel decoder: a deformable transformer encoder over the coarse feature maps, and mask features.

Source: Cheng et al., "Masked-attention Mask Transformer for Universal Image Segmentation", CVPR
2022, with the encoder of Deformable DETR.

Shapes: B images, C the width of the decoder, S tokens of all levels together.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcore.deformable import DeformableAttention, Sizes, pixel_centres
from segcore.rankseg.layers import sine_positions


class EncoderLayer(nn.Module):
    """Base of the encoder layers: attention and feed-forward network, each with post-norm."""

    def __init__(self, attention: nn.Module, width: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.attention = attention
        self.norm1 = nn.LayerNorm(width)
        self.linear1 = nn.Linear(width, feedforward)
        self.linear2 = nn.Linear(feedforward, width)
        self.norm2 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        for linear in (self.linear1, self.linear2):
            nn.init.xavier_uniform_(linear.weight)

    def update(self, x: Tensor, attended: Tensor) -> Tensor:
        """x and the output of its attention (B, S, C) -> the output of the layer (B, S, C)."""
        x = self.norm1(x + self.dropout(attended))
        change = self.linear2(self.dropout(F.relu(self.linear1(x))))
        return self.norm2(x + self.dropout(change))


class DeformableLayer(EncoderLayer):
    """An encoder layer with deformable self-attention."""

    def forward(self, x: Tensor, positions: Tensor, references: Tensor, sizes: Sizes) -> Tensor:
        """x (B, S, C), positions (S, C), references (S, 2) -> (B, S, C)."""
        return self.update(x, self.attention(x + positions, references, x, sizes))


class PixelDecoder(nn.Module):
    """Computes the feature levels that queries attend to, and the finer mask features."""

    def __init__(
        self,
        fine_channels: int,
        level_channels: Sequence[int],
        *,
        width: int = 256,
        mask_width: int = 256,
        num_layers: int = 6,
        num_heads: int = 8,
        num_points: int = 4,
        feedforward: int = 1024,
        dropout: float = 0.0,
    ) -> None:
        """
        Args:
            fine_channels: of the finest map, which is added after the transformer.
            level_channels: of the others, coarsest first.
            width: C, a multiple of 32 and of ``num_heads``.
            mask_width: channels of the mask features.
            num_layers, num_heads, num_points, feedforward, dropout: of the transformer.
        """
        super().__init__()
        levels = len(level_channels)
        self.input_proj = nn.ModuleList(
            conv_norm(channels, width, 1, bias=True) for channels in level_channels
        )
        self.level_embed = nn.Parameter(torch.randn(levels, width))
        self.layers = nn.ModuleList(
            DeformableLayer(
                DeformableAttention(width, levels, num_heads, num_points),
                width,
                feedforward,
                dropout,
            )
            for _ in range(num_layers)
        )
        self.lateral = conv_norm(fine_channels, width, 1)
        self.smooth = conv_norm(width, width, 3)
        self.mask_features = nn.Conv2d(width, mask_width, 1)
        for conv in (self.lateral[0], self.smooth[0], self.mask_features):
            nn.init.kaiming_uniform_(conv.weight, a=1)
        for proj in self.input_proj:
            nn.init.xavier_uniform_(proj[0].weight)
        for conv in (self.mask_features, *(proj[0] for proj in self.input_proj)):
            nn.init.zeros_(conv.bias)

    def forward(self, fine: Tensor, levels: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Return the mask features (B, mask_width, h, w), and those of the levels (B, C, h_i, w_i).

        Autocast is off in here: sampling locations need float32.

        Args:
            fine: the finest map, (B, fine_channels, h, w).
            levels: the others, coarsest first.
        """
        dtype = self.level_embed.dtype
        with torch.autocast(fine.device.type, enabled=False):
            maps = self._encode([level.to(dtype) for level in levels])
            top = self.lateral(fine.to(dtype))
            top = top + F.interpolate(maps[-1], top.shape[-2:], mode="bilinear")
            return self.mask_features(F.relu(self.smooth(top))), maps

    def _encode(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Apply the transformer encoder to the tokens of all levels."""
        levels = [proj(level) for proj, level in zip(self.input_proj, levels, strict=True)]
        sizes = [tuple(level.shape[-2:]) for level in levels]
        x = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], dim=1)
        with x.device:
            encodings = [sine_positions(*size, x.shape[-1]) for size in sizes]
            references = torch.cat([pixel_centres(*size) for size in sizes])
        positions = torch.cat(
            [
                encoding.to(x.dtype) + embed
                for encoding, embed in zip(encodings, self.level_embed, strict=True)
            ]
        )
        for layer in self.layers:
            x = layer(x, positions, references, sizes)
        parts = x.split([height * width for height, width in sizes], dim=1)
        return [
            part.transpose(1, 2).unflatten(-1, size)
            for part, size in zip(parts, sizes, strict=True)
        ]


def conv_norm(in_channels: int, width: int, kernel_size: int, bias: bool = False) -> nn.Sequential:
    """Return a convolution that keeps the size, and a group norm over 32 groups."""
    conv = nn.Conv2d(in_channels, width, kernel_size, padding=kernel_size // 2, bias=bias)
    return nn.Sequential(conv, nn.GroupNorm(32, width))
