"""Swin Transformer: attention in windows that shift from layer to layer.

Source: Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", ICCV
2021. Parameters have the names of its released files.

Shapes: B images, (H, W) a feature map, C its width, w the side of a window, nW windows an image,
N = w * w tokens a window.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchvision.ops import StochasticDepth

from segcore.rankseg.layers import Mlp

MASKED = -100.0  # added to the attention between tokens that only the shift brought together


class SwinTransformer(nn.Module):
    """Feature maps at strides 4, 8, 16, ... of twice the width each."""

    def __init__(
        self,
        width: int,
        depths: Sequence[int],
        num_heads: Sequence[int],
        window: int,
        *,
        patch_size: int = 4,
        in_channels: int = 3,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        drop_path: float = 0.0,
        checkpointing: bool = False,
        out_stages: Sequence[int] | None = None,
    ) -> None:
        """
        Args:
            width: of the first stage.
            depths, num_heads: blocks and heads of every stage.
            window: side of the windows.
            patch_size: side of the patches, which do not overlap.
            mlp_ratio: width inside the MLPs over that of the tokens.
            qk_scale: factor on queries times keys; None is 1 / sqrt(width of a head).
            dropout, attention_dropout: probabilities.
            drop_path: with which the last block is left out in training; it rises from 0 in a line.
            checkpointing: compute blocks again in the backward pass instead of keeping them.
            out_stages: those whose maps, each with a norm, are returned; None: all.
        """
        super().__init__()
        self.widths = [width << stage for stage in range(len(depths))]
        self.strides = [patch_size << stage for stage in range(len(depths))]
        self.checkpointing = checkpointing
        self.out_stages = tuple(range(len(depths)) if out_stages is None else out_stages)
        self.patch_embed = PatchEmbedding(in_channels, width, patch_size)
        self.dropout = nn.Dropout(dropout)
        last = max(sum(depths) - 1, 1)
        rates = (drop_path * index / last for index in range(sum(depths)))
        self.layers = nn.ModuleList()
        for stage, (depth, heads) in enumerate(zip(depths, num_heads, strict=True)):
            options = (self.widths[stage], heads, window, mlp_ratio, qkv_bias, qk_scale)
            blocks = (
                SwinBlock(
                    *options,
                    shift=window // 2 if index % 2 else 0,
                    dropout=dropout,
                    attention_dropout=attention_dropout,
                    drop_path=next(rates),
                )
                for index in range(depth)
            )
            merging = PatchMerging(self.widths[stage]) if stage + 1 < len(depths) else None
            self.layers.append(Stage(blocks, merging))
            if stage in self.out_stages:
                self.add_module(f"norm{stage}", nn.LayerNorm(self.widths[stage]))
        self.apply(initialise_linear)
        self.register_load_state_dict_pre_hook(_drop_derived)

    def forward(self, images: Tensor) -> list[Tensor]:
        """images (B, 3, H, W) -> for each of ``out_stages``, i, in ascending order
        (B, C * 2^i, H / 2^(i + 2), W / 2^(i + 2))."""
        return self.feature_maps(images)

    def feature_maps(
        self, images: Tensor, refine: Callable[[int, Tensor], Tensor] | None = None
    ) -> list[Tensor]:
        """Return what :meth:`forward` returns.

        Args:
            images: (B, 3, H, W).
            refine: (number of a stage, its tokens (B, H, W, C) after its blocks) -> the tokens that
                go on instead, to the map of this stage and to the next one.
        """
        x = self.dropout(self.patch_embed(images))
        maps = []
        for stage, layer in enumerate(self.layers):
            for block in layer.blocks:
                keep = not (self.checkpointing and torch.is_grad_enabled())
                x = block(x) if keep else checkpoint(block, x, use_reentrant=False)
            x = x if refine is None else refine(stage, x)
            if stage in self.out_stages:
                maps.append(getattr(self, f"norm{stage}")(x).permute(0, 3, 1, 2).contiguous())
            if layer.downsample is not None:
                x = layer.downsample(x)
        return maps


class Stage(nn.Module):
    """Blocks of one width, and the downsampling to the next stage."""

    def __init__(self, blocks: Iterable[nn.Module], downsample: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample


class PatchEmbedding(nn.Module):
    """Embed every patch as a token; the image is padded with zeros to whole patches."""

    def __init__(self, in_channels: int, width: int, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv2d(in_channels, width, patch_size, stride=patch_size)
        self.norm = nn.LayerNorm(width)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, H / patch, W / patch, C)."""
        height, width = images.shape[-2:]
        images = F.pad(images, (0, -width % self.patch_size, 0, -height % self.patch_size))
        return self.norm(self.proj(images).permute(0, 2, 3, 1))


class PatchMerging(nn.Module):
    """Merge two by two tokens into one of twice the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H / 2, W / 2, 2 C), H and W rounded up."""
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        # The order of the released weights: column by column.
        parts = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(torch.cat(parts, dim=-1)))


def from_unfolded(parameter: Tensor) -> Tensor:
    """Reorder the inputs of a merging that unfolds its patches, as mmsegmentation's.

    Args:
        parameter: (..., 4 C), by channel, then row, then column of the four tokens.
    Returns:
        (..., 4 C), by column, then row, then channel: the order of :class:`PatchMerging`.
    """
    return parameter.unflatten(-1, (-1, 2, 2)).transpose(-3, -1).flatten(-3)


class SwinBlock(nn.Module):
    """A pre-norm transformer layer whose tokens attend within their window."""

    def __init__(
        self,
        width: int,
        num_heads: int,
        window: int,
        mlp_ratio: float,
        qkv_bias: bool,
        qk_scale: float | None,
        *,
        shift: int,
        dropout: float,
        attention_dropout: float,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.norm1 = nn.LayerNorm(width)
        self.attn = WindowAttention(
            width, num_heads, window, qkv_bias, qk_scale, attention_dropout, dropout
        )
        self.drop_path = StochasticDepth(drop_path, "row")
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, int(width * mlp_ratio), dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> the same shape."""
        x = x + self.drop_path(self._attend(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def _attend(self, x: Tensor) -> Tensor:
        """Return the attention of the map, padded with zeros to whole windows; padding counts."""
        height, width = x.shape[1:3]
        x = F.pad(x, (0, 0, 0, -width % self.window, 0, -height % self.window))
        size, mask = x.shape[1:3], None
        if self.shift:
            x = x.roll((-self.shift, -self.shift), dims=(1, 2))
            mask = shift_mask(*size, self.window, self.shift, x.device)
        x = from_windows(self.attn(to_windows(x, self.window), mask), size, self.window)
        if self.shift:
            x = x.roll((self.shift, self.shift), dims=(1, 2))
        return x[:, :height, :width]


class WindowAttention(nn.Module):
    """Self-attention in windows with a learned bias for every offset between two tokens."""

    def __init__(
        self,
        width: int,
        num_heads: int,
        window: int,
        qkv_bias: bool,
        qk_scale: float | None,
        attention_dropout: float,
        dropout: float,
    ) -> None:
        super().__init__()
        self.num_heads, self.scale = num_heads, qk_scale
        self.attention_dropout = attention_dropout
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias)
        self.proj = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        offsets = (2 * window - 1) ** 2
        self.relative_position_bias_table = nn.Parameter(torch.empty(offsets, num_heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.register_buffer("offsets", offset_index(window, window), persistent=False)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """
        Args:
            x: (B, nW, N, C).
            mask: (nW, N, N) bool, pairs of tokens that do not attend to each other; None for none.
        Returns:
            (B, nW, N, C).
        """
        batch, windows = x.shape[:2]
        qkv = self.qkv(x.flatten(0, 1)).unflatten(-1, (3, self.num_heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B nW, heads, N, C / heads)
        bias = self.relative_position_bias_table[self.offsets].permute(2, 0, 1)  # (heads, N, N)
        if mask is None:
            bias = bias[None]
        else:
            bias = bias + MASKED * mask[:, None].to(bias.dtype)  # (nW, heads, N, N)
            bias = bias.expand(batch, -1, -1, -1, -1).flatten(0, 1)
        dropout = self.attention_dropout if self.training else 0.0
        x = F.scaled_dot_product_attention(
            q, k, v, bias.to(q.dtype), dropout_p=dropout, scale=self.scale
        )
        x = self.dropout(self.proj(x.transpose(1, 2).flatten(2)))
        return x.unflatten(0, (batch, windows))


def to_windows(x: Tensor, window: int) -> Tensor:
    """(B, H, W, C) -> (B, nW, N, C), H and W multiples of ``window``."""
    x = x.unflatten(2, (-1, window)).unflatten(1, (-1, window))
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def from_windows(x: Tensor, size: Sequence[int], window: int) -> Tensor:
    """(B, nW, N, C) -> (B, H, W, C), ``size`` being (H, W)."""
    x = x.unflatten(1, (size[0] // window, -1)).unflatten(3, (window, window))
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def offset_index(height: int, width: int) -> Tensor:
    """Return the row of a bias table for each pair of a grid's cells: (N, N) int64, N = h * w.

    Entry (i, j) counts the offsets of cell i from cell j, (2 h - 1) down times (2 w - 1) across.
    """
    row, column = (
        axis.flatten()
        for axis in torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    )
    rows = row[:, None] - row[None] + height - 1
    columns = column[:, None] - column[None] + width - 1
    return rows * (2 * width - 1) + columns


def shift_mask(height: int, width: int, window: int, shift: int, device: torch.device) -> Tensor:
    """Mark pairs of tokens that are in one window only because of the shift: (nW, N, N) bool."""

    def region(cells: int) -> Tensor:
        index = torch.arange(cells, device=device)
        return (index >= cells - window).long() + (index >= cells - shift).long()

    regions = 3 * region(height)[:, None] + region(width)
    regions = to_windows(regions[None, ..., None], window)[0, ..., 0]  # (nW, N)
    return regions[:, :, None] != regions[:, None, :]


def initialise_linear(module: nn.Module) -> None:
    """Initialise a linear layer as transformers do; leave other modules as they are."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _drop_derived(_: nn.Module, state_dict: dict, prefix: str, *__: object) -> None:
    """Drop entries of released files that follow from the geometry alone."""
    derived = ("relative_position_index", "attn_mask")
    for key in [k for k in state_dict if k.startswith(prefix) and k.endswith(derived)]:
        del state_dict[key]
