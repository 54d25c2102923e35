"""Layers of the multi-label heads.

Shapes: B images, L tokens, C classes, D width.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GroupWiseLinear(nn.Module):
    """One binary classifier per class (Query2Label)."""

    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(width)
        self.weight = nn.Parameter(torch.empty(1, num_classes, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(1, num_classes).uniform_(-bound, bound))

    def forward(self, tokens: Tensor) -> Tensor:
        """Classify token c by classifier c: tokens (B, C, D) -> logits (B, C)."""
        return torch.einsum("bcd,cd->bc", tokens, self.weight[0]) + self.bias


class SeparableProjection(nn.Module):
    """A scale and a bias per channel, then a linear layer, a ReLU after each.

    Source: the published code of RankSeg on DeepLabv3.
    """

    def __init__(self, width: int, hidden_dim: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, kernel_size=1, groups=width)
        self.pointwise = nn.Linear(width, hidden_dim)

    def forward(self, features: Tensor) -> Tensor:
        """features (B, L, D) -> (B, L, E), at least 0."""
        scaled = self.depthwise(features.transpose(1, 2)).relu().transpose(1, 2)
        return self.pointwise(scaled).relu()


class SelfAttention(nn.Module):
    """Multi-head self-attention with one matrix for query, key and value."""

    def __init__(self, width: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, kept: Tensor | None = None) -> Tensor:
        """
        Args:
            x: (B, L, D).
            kept: (B, L) bool, the tokens of each image that take part, at least one; no token
                attends to another. None: all.
        Returns:
            (B, L, D), without meaning at the other tokens.
        """
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))
        q, k, v = qkv.transpose(1, 3).unbind(2)  # each (B, heads, L, D / heads)
        dropout = self.dropout.p if self.training else 0.0
        mask = None if kept is None else kept[:, None, None]
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        return self.dropout(self.proj(attended.transpose(1, 2).flatten(2)))


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between them."""

    def __init__(self, width: int, hidden_dim: int, dropout: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, L, D) -> (B, L, D)."""
        return self.dropout(self.fc2(self.dropout(F.gelu(self.fc1(x)))))


class EncoderBlock(nn.Module):
    """A pre-norm transformer encoder layer."""

    def __init__(self, width: int, num_heads: int, feedforward_dim: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = SelfAttention(width, num_heads, dropout)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, feedforward_dim, dropout)

    def forward(self, x: Tensor, kept: Tensor | None = None) -> Tensor:
        """x (B, L, D), kept as of :class:`SelfAttention` -> (B, L, D)."""
        x = x + self.attn(self.norm1(x), kept)
        return x + self.mlp(self.norm2(x))


class DecoderLayer(nn.Module):
    """A post-norm transformer decoder layer without self-attention (Query2Label).

    With x itself as value, x + positions as key, and positions as query it is an encoder layer.
    """

    def __init__(self, width: int, num_heads: int, feedforward_dim: int, dropout: float) -> None:
        super().__init__()
        self.cross_attn = nn.MultiheadAttention(width, num_heads, dropout, batch_first=True)
        self.norm1 = nn.LayerNorm(width)
        self.linear1 = nn.Linear(width, feedforward_dim)
        self.linear2 = nn.Linear(feedforward_dim, width)
        self.norm2 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """x and query (B, C, D), key and value (B, L, D) -> (B, C, D)."""
        attended, _ = self.cross_attn(x + query, key, value, need_weights=False)
        x = self.norm1(x + self.dropout(attended))
        change = self.linear2(self.dropout(F.relu(self.linear1(x))))
        return self.norm2(x + self.dropout(change))


def sine_positions(height: int, width: int, channels: int) -> Tensor:
    """Return sine position encodings of a grid's cells: (height * width, channels), row by row.

    The first half of the channels encodes the row, the second the column: sines and cosines in
    turn, with wave lengths that grow to 10000 times the first one's (DETR).

    Args:
        height, width: cells.
        channels: a multiple of 4.
    """
    exponent = torch.arange(0, channels // 2, 2) / (channels // 2)

    def code(cells: int) -> Tensor:
        position = torch.arange(1, cells + 1) / (cells + 1e-6) * 2 * math.pi
        angle = position[:, None] / 10000**exponent
        return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)

    rows = code(height)[:, None].expand(-1, width, -1)
    columns = code(width)[None].expand(height, -1, -1)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1)
