"""Deformable attention over several feature maps, without a compiled extension.

Each query looks at a few points of every map, which it chooses itself. Source: Zhu et al.,
"Deformable DETR: Deformable Transformers for End-to-End Object Detection", ICLR 2021.

Shapes: B pictures, Q queries, S tokens of all L levels together, M heads, P points a level, D width
of a head.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Sizes = Sequence[tuple[int, int]]  # (height, width) of every level


class DeformableAttention(nn.Module):
    """Attention at learned offsets from a reference point, with learned weights."""

    def __init__(self, width: int, num_levels: int, num_heads: int = 8, num_points: int = 4):
        """
        Args:
            width: of queries and tokens, a multiple of ``num_heads``.
            num_levels, num_heads, num_points: L, M, P.
        """
        super().__init__()
        self.num_levels, self.num_heads, self.num_points = num_levels, num_heads, num_points
        number = num_heads * num_levels * num_points
        self.sampling_offsets = nn.Linear(width, 2 * number)
        self.attention_weights = nn.Linear(width, number)
        self.value_proj = nn.Linear(width, width)
        self.output_proj = nn.Linear(width, width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Every head looks in a direction of its own, point i at a distance of i pixels."""
        for linear in (self.sampling_offsets, self.attention_weights):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)
        for linear in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)
        angle = torch.arange(self.num_heads) * (2 * math.pi / self.num_heads)
        direction = torch.stack([angle.cos(), angle.sin()], dim=-1)
        direction = direction / direction.abs().amax(dim=-1, keepdim=True)
        distance = torch.arange(1, self.num_points + 1)
        offsets = direction[:, None, None] * distance[:, None]  # (M, 1, P, 2)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(offsets.expand(-1, self.num_levels, -1, -1).flatten())

    def forward(self, query: Tensor, references: Tensor, tokens: Tensor, sizes: Sizes) -> Tensor:
        """
        Args:
            query: (B, Q, C).
            references: (Q, 2), where each query is, (x, y) in 0 ... 1.
            tokens: (B, S, C), level after level, row by row.
            sizes: of the levels.
        Returns:
            (B, Q, C).
        """
        grid = (self.num_heads, self.num_levels, self.num_points)
        offsets = self.sampling_offsets(query).unflatten(-1, (*grid, 2))
        weights = self.attention_weights(query).unflatten(-1, (self.num_heads, -1))
        weights = weights.softmax(dim=-1).unflatten(-1, grid[1:])
        extent = references.new_tensor([(width, height) for height, width in sizes])
        locations = references[:, None, None, None] + offsets / extent[:, None]
        value = self.value_proj(tokens).unflatten(-1, (self.num_heads, -1))
        return self.output_proj(sample(value, sizes, locations, weights))


def sample(value: Tensor, sizes: Sizes, locations: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums of bilinear samples; zero outside the maps.

    The four neighbours of every point are rows of one table, and what a head gives a query is a
    weighted sum of rows: an embedding bag, which never holds the samples themselves.

    Args:
        value: (B, S, M, D), level after level, row by row.
        sizes: of the L levels.
        locations: (B, Q, M, L, P, 2), (x, y); 0 ... 1 is the map, pixel i of n lies at (i + 0.5)/n.
        weights: (B, Q, M, L, P).
    Returns:
        (B, Q, M * D).
    """
    batch, num_tokens, heads, width = value.shape
    precise = torch.promote_types(locations.dtype, torch.float32)
    rows, shares = _neighbours(sizes, locations.to(precise), weights)
    table = torch.arange(batch * heads, device=value.device).view(batch, 1, heads, 1)
    bags = (rows + table * num_tokens).flatten(0, 2)
    head_major = value.transpose(1, 2).reshape(-1, width)
    sums = F.embedding_bag(
        bags, head_major, mode="sum", per_sample_weights=shares.flatten(0, 2).to(value.dtype)
    )
    return sums.view(batch, -1, heads * width)


def _neighbours(sizes: Sizes, locations: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens around every location, int64, and their shares: each (B, Q, M, 4 * L * P)."""
    extent = torch.tensor([(width, height) for height, width in sizes], device=locations.device)
    starts = [0]
    for height, width in sizes:
        starts.append(starts[-1] + height * width)
    start = torch.tensor(starts[:-1], device=locations.device)[:, None]
    position = locations * extent[:, None] - 0.5
    corner = position.detach().floor()
    fraction = position - corner
    corner = corner.long()
    width, height = extent[:, None].unbind(-1)
    rows, shares = [], []
    for right in (0, 1):
        x = corner[..., 0] + right
        share_x = fraction[..., 0] if right else 1 - fraction[..., 0]
        for below in (0, 1):
            y = corner[..., 1] + below
            share_y = fraction[..., 1] if below else 1 - fraction[..., 1]
            inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
            rows.append(((start + y * width + x) * inside).flatten(-2))
            shares.append((weights * share_x * share_y * inside).flatten(-2))
    return torch.cat(rows, dim=-1), torch.cat(shares, dim=-1)
