"""Multi-scale deformable attention, without a compiled extension.

Each query attends to a few sampling points of every feature map, whose offsets it predicts. Source:
Zhu et al., "Deformable DETR: Deformable Transformers for End-to-End Object Detection", ICLR 2021.

Shapes: B images, Q queries, S tokens of all L levels together, C their width, M heads, P points a
level, D width of a head.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Sizes = Sequence[tuple[int, int]]  # (height, width) of every level


class DeformableAttention(nn.Module):
    """Attention at predicted offsets from a reference point, with predicted weights."""

    def __init__(
        self,
        width: int,
        num_levels: int,
        num_heads: int = 8,
        num_points: int = 4,
        value_width: int | None = None,
    ) -> None:
        """
        Args:
            width: C, of queries and tokens.
            num_levels, num_heads, num_points: L, M, P.
            value_width: M * D, of all heads together, a multiple of ``num_heads``; None: C.
        """
        super().__init__()
        value_width = value_width or width
        self.num_levels, self.num_heads, self.num_points = num_levels, num_heads, num_points
        number = num_heads * num_levels * num_points
        self.sampling_offsets = nn.Linear(width, 2 * number)
        self.attention_weights = nn.Linear(width, number)
        self.value_proj = nn.Linear(width, value_width)
        self.output_proj = nn.Linear(value_width, width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise the offsets: one direction per head, point i at a distance of i pixels."""
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
            references: (Q, 2), the reference point (x, y) of each query, in 0 ... 1.
            tokens: (B, S, C), level after level, row by row.
            sizes: of the levels.
        Returns:
            (B, Q, C).
        """
        grid = (self.num_heads, self.num_levels, self.num_points)
        weights = self.attention_weights(query).unflatten(-1, (self.num_heads, -1))
        weights = weights.softmax(dim=-1).unflatten(-1, grid[1:])
        extent = references.new_tensor([(width, height) for height, width in sizes])
        extent = extent.repeat_interleave(self.num_points, dim=0).repeat(self.num_heads, 1)
        extent = extent.flatten()  # of every point, in the order of the offsets
        centres = references.repeat(1, len(extent) // 2)
        locations = centres + self.sampling_offsets(query) / extent
        value = self.value_proj(tokens).unflatten(-1, (self.num_heads, -1))
        sums = sample(value, sizes, locations.unflatten(-1, (*grid, 2)), weights)
        return self.output_proj(sums)


def pixel_centres(height: int, width: int) -> Tensor:
    """Return (x, y) of every pixel's centre in 0 ... 1, row by row: (height * width, 2)."""
    y = (torch.arange(height) + 0.5) / height
    x = (torch.arange(width) + 0.5) / width
    return torch.stack([x.expand(height, -1), y[:, None].expand(-1, width)], dim=-1).flatten(0, 1)


def sample(value: Tensor, sizes: Sizes, locations: Tensor, weights: Tensor) -> Tensor:
    """Return weighted sums of bilinear samples; zero outside the maps.

    The four neighbours of every point are rows of one table, so the output of a head is a weighted
    sum of rows: an embedding bag, which never holds the samples themselves.

    Args:
        value: (B, S, M, D), level after level, row by row.
        sizes: of the L levels.
        locations: (B, Q, M, L, P, 2), (x, y); the map spans 0 ... 1, the centre of pixel i of n is
            at (i + 0.5) / n.
        weights: (B, Q, M, L, P).
    Returns:
        (B, Q, M * D).
    """
    batch, num_tokens, heads, width = value.shape
    precise = torch.promote_types(locations.dtype, torch.float32)
    tokens, factors = _neighbours(sizes, locations.to(precise), weights)
    # Row indices are below 2^31: int32 takes half the memory of int64.
    head = torch.arange(batch * heads, dtype=torch.int32, device=value.device)
    first = (head * num_tokens).view(batch, 1, heads, 1)
    rows = torch.cat([first + neighbour.int() for neighbour in tokens], dim=-1)
    factors = torch.cat(factors, dim=-1).flatten(0, 2).to(value.dtype)
    sums = weighted_sums(rows.flatten(0, 2), value.transpose(1, 2).reshape(-1, width), factors)
    return sums.view(batch, -1, heads * width)


def weighted_sums(rows: Tensor, table: Tensor, weights: Tensor) -> Tensor:
    """Sum rows of a table: rows (N, n) int32, table (R, D), weights (N, n) -> (N, D)."""
    sums = F.embedding_bag(rows, table.detach(), mode="sum", per_sample_weights=weights)
    return _TableGradient.apply(sums, table, rows, weights.detach())


class _TableGradient(torch.autograd.Function):
    """Identity of the sums, with a fast gradient of the table.

    The gradient of a row is a weighted sum of the gradients of the sums that it entered: with the
    pairs sorted by row, an embedding bag as well. PyTorch's gradient of an embedding bag visits
    the pairs one by one and takes twice as long on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, sums: Tensor, table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(rows, weights)
        ctx.num_rows = len(table)
        return sums.view_as(sums)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        if not ctx.needs_input_grad[1]:
            return gradient, None, None, None
        rows, weights = ctx.saved_tensors
        pairs, order = rows.flatten().sort(stable=True)
        numbers = torch.arange(ctx.num_rows, dtype=torch.int32, device=rows.device)
        table = F.embedding_bag(
            (order // rows.shape[1]).int(),
            gradient.contiguous(),
            torch.searchsorted(pairs, numbers, out_int32=True),
            mode="sum",
            per_sample_weights=weights.flatten()[order],
        )
        return gradient, table, None, None


def _neighbours(
    sizes: Sizes, locations: Tensor, weights: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """Return the four tokens around every location, and their factors: each (B, Q, M, L * P).

    A factor is the attention weight times the bilinear weight. Operations with a long last axis
    are several times faster on a CPU: heads, levels and points are one axis, and both coordinates
    are computed in one tensor.
    """
    _, _, heads, _, points, _ = locations.shape
    starts, extents = [0], []
    for height, width in sizes:
        starts.append(starts[-1] + height * width)
        extents.append((width, height))
    # Per level, then per point of every head; counts of pixels are exact in float32.
    of_levels = torch.tensor([starts[:-1], *zip(*extents, strict=True)], device=locations.device)
    of_points = of_levels.to(locations.dtype).repeat_interleave(points, dim=1).repeat(1, heads)
    start, extent = of_points[0], of_points[1:, None, None]
    both = locations.flatten(2, 4).movedim(-1, 0).contiguous()  # (2, B, Q, M * L * P)
    pixels = both * extent - 0.5
    first = pixels.detach().floor().nan_to_num()
    fraction = pixels - first
    axes = []
    for cell, bilinear in ((first, 1 - fraction), (first + 1, fraction)):
        inside = cell.clamp(min=0).minimum(extent - 1)
        axes.append((inside, bilinear * (inside == cell)))
    flat = weights.flatten(2)
    tokens, factors = [], []
    for (_, y), (_, weight_y) in axes:
        in_row, row_start = flat * weight_y, y * extent[0] + start
        for (x, _), (weight_x, _) in axes:
            tokens.append((row_start + x).unflatten(-1, (heads, -1)))
            factors.append((in_row * weight_x).unflatten(-1, (heads, -1)))
    return tokens, factors
