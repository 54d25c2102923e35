"""Spatial aggregation: Swin blocks over the map of each class.

Source: CAT-Seg (CVPR 2024), section 3.2; Swin Transformer (ICCV 2021).

Shapes: B crops, T classes, (H, W) the feature grid, C width of the volume, G width of the guidance,
n windows of s = window**2 positions.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcore.memory import recomputed


class SpatialAggregation(nn.Module):
    """Two Swin blocks, the second with shifted windows, with appearance guidance.

    Classes do not interact, so they can pass in chunks.
    """

    def __init__(
        self,
        width: int,
        guidance_width: int,
        resolution: tuple[int, int],
        num_heads: int,
        window: int,
    ) -> None:
        super().__init__()
        whole = min(resolution) <= window
        window = min(window, *resolution)
        self.guidance_norm = nn.LayerNorm(guidance_width)
        self.blocks = nn.ModuleList(
            SwinBlock(width, guidance_width, resolution, num_heads, window, shift)
            for shift in (0, 0 if whole else window // 2)
        )

    def forward(self, volume: Tensor, guidance: Tensor) -> Tensor:
        """volume (B, T, H, W, C), guidance (B, H, W, G) -> (B, T, H, W, C)."""
        guidance = self.guidance_norm(guidance)
        for block in self.blocks:
            volume = block(volume, guidance)
        return volume


class SwinBlock(nn.Module):
    """Pre-norm window attention and MLP."""

    def __init__(
        self,
        width: int,
        guidance_width: int,
        resolution: tuple[int, int],
        num_heads: int,
        window: int,
        shift: int,
    ) -> None:
        super().__init__()
        self.window = window
        self.shift = shift
        self.norm1 = nn.LayerNorm(width)
        self.attention = GuidedWindowAttention(width, guidance_width, num_heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        mask = shift_mask(resolution, window, shift) if shift else None
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor, guidance: Tensor) -> Tensor:
        """x (B, T, H, W, C), guidance (B, H, W, G) -> (B, T, H, W, C)."""
        guidance = self._to_windows(guidance[:, None])
        heads = recomputed(self._heads, x, guidance)
        attended = self.attention.attend(*heads, self.mask)
        x = x + recomputed(self._output, attended, x.shape)
        return x + recomputed(self._mlp, x)

    def _heads(self, x: Tensor, guidance: Tensor) -> Tensor:
        return self.attention.heads(self._to_windows(self.norm1(x)), guidance)

    def _output(self, attended: Tensor, shape: torch.Size) -> Tensor:
        return self._from_windows(self.attention.join(attended), shape)

    def _mlp(self, x: Tensor) -> Tensor:
        return self.mlp(self.norm2(x))

    def _to_windows(self, x: Tensor) -> Tensor:
        """(B, T, H, W, C) -> (B, T, n, s, C), windows row-major."""
        if self.shift:
            x = x.roll((-self.shift, -self.shift), dims=(2, 3))
        x = x.unflatten(3, (-1, self.window)).unflatten(2, (-1, self.window))
        return x.transpose(3, 4).flatten(4, 5).flatten(2, 3)

    def _from_windows(self, x: Tensor, shape: torch.Size) -> Tensor:
        """(B*T, n, s, C) -> ``shape`` (B, T, H, W, C)."""
        x = x.unflatten(0, shape[:2])
        rows, columns = (side // self.window for side in shape[2:4])
        x = x.unflatten(3, (self.window, self.window)).unflatten(2, (rows, columns))
        x = x.transpose(3, 4).flatten(4, 5).flatten(2, 3)
        return x.roll((self.shift, self.shift), dims=(2, 3)) if self.shift else x


class GuidedWindowAttention(nn.Module):
    """Window attention whose query and key read the guidance; its value does not."""

    def __init__(self, width: int, guidance_width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = GuidedLinear(width, guidance_width, width)
        self.key = GuidedLinear(width, guidance_width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def heads(self, x: Tensor, guidance: Tensor) -> Tensor:
        """Compute query, key and value with one matrix product.

        x (B, T, n, s, C), guidance (B, 1, n, s, G) -> (3, B*T, n*heads, s, C / heads).
        """
        query, query_bias = self.query.parts(guidance)
        key, key_bias = self.key.parts(guidance)
        biases = [query_bias, key_bias, self.value.bias.expand_as(key_bias)]
        weight = torch.cat([query, key, self.value.weight])
        joint = F.linear(x, weight).add_(torch.cat(biases, dim=-1))
        joint = joint.flatten(0, 1).unflatten(-1, (3, self.num_heads, -1))
        return joint.permute(3, 0, 1, 4, 2, 5).flatten(2, 3)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """Each (B*T, n*heads, s, d), mask (n, s, s) -> (B*T, n*heads, s, d)."""
        if mask is not None:
            # Four dimensions: the fused kernels do not accept a mask of three.
            mask = mask.repeat_interleave(self.num_heads, dim=0)[None]
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)

    def join(self, attended: Tensor) -> Tensor:
        """Concatenate and project the heads: (B*T, n*heads, s, d) -> (B*T, n, s, C)."""
        attended = attended.unflatten(1, (-1, self.num_heads)).transpose(2, 3).flatten(3)
        return self.output(attended)


class GuidedLinear(nn.Linear):
    """A linear layer of the concatenation (x, guidance), without concatenating.

    It computes W_x x + (W_g g + b); the second term is shared by all x with the same guidance.
    """

    def __init__(self, width: int, guidance_width: int, out_width: int) -> None:
        super().__init__(width + guidance_width, out_width)
        self.widths = (width, guidance_width)

    def parts(self, guidance: Tensor) -> tuple[Tensor, Tensor]:
        """Return the matrix of x, and the term (..., out_width) of a guidance (..., width)."""
        weight_x, weight_guidance = self.weight.split(self.widths, dim=1)
        return weight_x, F.linear(guidance, weight_guidance, self.bias)

    def forward(self, x: Tensor, guidance: Tensor) -> Tensor:
        """x (..., width), guidance (..., guidance_width), broadcast -> (..., out_width)."""
        weight_x, bias = self.parts(guidance)
        return F.linear(x, weight_x) + bias


def shift_mask(resolution: tuple[int, int], window: int, shift: int) -> Tensor:
    """Return the attention mask of shifted windows: (n, s, s) bool, true = may attend.

    The cyclic shift moves opposite borders next to each other; attention is limited to positions
    that were neighbours before.
    """
    regions = [
        torch.bucketize(torch.arange(side), torch.tensor([side - window, side - shift]), right=True)
        for side in resolution
    ]
    region = 3 * regions[0][:, None] + regions[1]  # (H, W)
    region = region.unflatten(1, (-1, window)).unflatten(0, (-1, window))
    region = region.transpose(1, 2).flatten(2).flatten(0, 1)  # (n, s)
    return region[:, :, None] == region[:, None, :]
