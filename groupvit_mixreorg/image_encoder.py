"""GroupViT's image encoder: a vision transformer whose tokens are grouped to segments in stages.

Source: Xu et al., "GroupViT: Semantic Segmentation Emerges from Text Supervision", CVPR 2022,
section 3.1.

Shapes: B images, (h, w) their grid of patches, L = h * w image tokens, G group tokens, S segments,
D width.
"""

import itertools
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .grouping import GroupingBlock, TokenMixer

NORM = partial(nn.LayerNorm, eps=1e-5)


class ImageFeatures(NamedTuple):
    """What the encoder finds in images.

    Attributes:
        segments: (B, S, D), of the last stage.
        assignments: of each grouping block, in turn, the soft assignment of its tokens to its
            groups: (B, S1, L), (B, S2, S1), ...
        grid: (h, w).
    """

    segments: Tensor
    assignments: tuple[Tensor, ...]
    grid: tuple[int, int]

    @property
    def vector(self) -> Tensor:
        """The mean of the segments, which stands for the whole image: (B, D)."""
        return self.segments.mean(dim=1)

    @property
    def shares(self) -> Tensor:
        """Shares of the segments in each patch, the product of the assignments: (B, S, L)."""
        shares, *others = self.assignments
        for assignment in others:
            shares = assignment @ shares
        return shares

    def chunk(self, parts: int) -> "list[ImageFeatures]":
        """Divide a batch into equal parts."""
        assignments = zip(*(each.chunk(parts) for each in self.assignments), strict=True)
        return [
            ImageFeatures(segments, assigned, self.grid)
            for segments, assigned in zip(self.segments.chunk(parts), assignments, strict=True)
        ]


class GroupingStage(nn.Module):
    """Transformer blocks over image and group tokens, then a grouping block; the last stage has
    neither group tokens nor a grouping block."""

    def __init__(
        self,
        width: int,
        num_heads: int,
        drop_path: Sequence[float],
        *,
        num_groups: int,
        num_segments: int,
        num_earlier: int,
        checkpointing: bool = False,
    ) -> None:
        """
        Args:
            width: D.
            num_heads: of every attention.
            drop_path: of each block, the probability with which it is left out in training.
            num_groups: G, 0 for none.
            num_segments: S, where there are group tokens.
            num_earlier: group tokens of the stage before, which are added after a projection; 0:
                none.
            checkpointing: compute blocks again in the backward pass instead of keeping them.
        """
        super().__init__()
        self.num_groups, self.checkpointing = num_groups, checkpointing
        self.group_tokens = nn.Parameter(torch.zeros(1, num_groups, width)) if num_groups else None
        self.group_projection = (
            TokenMixer(width, num_earlier, num_groups) if num_groups and num_earlier else None
        )
        self.blocks = nn.ModuleList(
            Block(width, num_heads, qkv_bias=True, drop_path=rate, norm_layer=NORM)
            for rate in drop_path
        )
        self.grouping = (
            GroupingBlock(width, num_heads, num_groups, num_segments) if num_groups else None
        )

    def join(self, tokens: Tensor, earlier: Tensor | None = None) -> Tensor:
        """Append the stage's group tokens to image tokens: (B, L, D) -> (B, L + G, D).

        Args:
            tokens: (B, L, D).
            earlier: group tokens at the end of the stage before, (B, G', D).
        """
        if self.group_tokens is None:
            return tokens
        groups = self.group_tokens.expand(len(tokens), -1, -1)
        if self.group_projection is not None:
            groups = groups + self.group_projection(earlier)
        return torch.cat([tokens, groups.to(tokens.dtype)], dim=1)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Undo :meth:`join`: (B, L + G, D) -> (B, L, D), (B, G, D)."""
        return x.split([x.shape[1] - self.num_groups, self.num_groups], dim=1)

    def run_block(self, index: int, x: Tensor) -> Tensor:
        """Run one block on joined tokens (B, L + G, D)."""
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(self.blocks[index], x, use_reentrant=False)
        return self.blocks[index](x)

    def run(self, x: Tensor) -> Tensor:
        """Run all blocks on joined tokens (B, L + G, D)."""
        for index in range(len(self.blocks)):
            x = self.run_block(index, x)
        return x


class ImageEncoder(nn.Module):
    """Images -> segment tokens."""

    def __init__(
        self,
        *,
        grid: tuple[int, int],
        patch_size: int = 16,
        width: int = 384,
        num_heads: int = 6,
        depths: Sequence[int] = (6, 3, 3),
        group_tokens: Sequence[int] = (64, 8, 0),
        output_groups: Sequence[int] = (64, 8),
        drop_path: float = 0.0,
        checkpointing: bool = False,
    ) -> None:
        """
        Args:
            grid: patches, down and across, that the learned positions are made for; those of
                another grid are interpolated.
            patch_size: side of the patches, which do not overlap.
            width: D.
            num_heads: of every attention.
            depths: blocks of each stage.
            group_tokens: of each stage, the last one 0.
            output_groups: segments behind each stage but the last.
            drop_path: probability with which the last block is left out in training; that of the
                others grows linearly up to it.
            checkpointing: compute blocks again in the backward pass instead of keeping them.
        """
        super().__init__()
        self.position_grid, self.patch_size = grid, patch_size
        self.num_segments = output_groups[-1]
        self.patches = nn.Conv2d(3, width, patch_size, stride=patch_size)
        self.patch_norm = NORM(width)
        self.positions = nn.Parameter(torch.zeros(1, grid[0] * grid[1], width))
        rates = torch.linspace(0, drop_path, sum(depths), device="cpu").tolist()
        blocks = iter(rates)
        self.stages = nn.ModuleList(
            GroupingStage(
                width,
                num_heads,
                list(itertools.islice(blocks, depth)),
                num_groups=groups,
                num_segments=segments,
                num_earlier=earlier,
                checkpointing=checkpointing,
            )
            for depth, groups, segments, earlier in zip(
                depths, group_tokens, (*output_groups, 0), (0, *group_tokens[:-1]), strict=True
            )
        )
        self.norm = NORM(width)
        self.apply(initialise_linear)
        nn.init.trunc_normal_(self.positions, std=0.02)
        # Those of later stages begin as the projection of the earlier ones alone.
        nn.init.trunc_normal_(self.stages[0].group_tokens, std=0.02)

    def forward(self, images: Tensor) -> ImageFeatures:
        """images (B, 3, H, W), sides multiples of the patch size -> their features."""
        tokens, grid = self.embed(images)
        first = self.stages[0]
        return self.group(first.run(first.join(tokens)), grid)

    def embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Embed patches: images (B, 3, H, W) -> tokens (B, L, D) with positions, and (h, w)."""
        x = self.patches(images)
        grid = tuple(x.shape[-2:])
        return self.patch_norm(x.flatten(2).transpose(1, 2)) + self._positions(grid), grid

    def group(self, x: Tensor, grid: tuple[int, int]) -> ImageFeatures:
        """Run all that follows the blocks of the first stage.

        Args:
            x: image and group tokens behind these blocks, (B, L + G, D).
            grid: (h, w).
        """
        first, *others = self.stages
        tokens, groups = first.split(x)
        tokens, assignment = first.grouping(tokens, groups)
        assignments = [assignment]
        for stage in others:
            tokens, groups = stage.split(stage.run(stage.join(tokens, groups)))
            if stage.grouping is not None:
                tokens, assignment = stage.grouping(tokens, groups)
                assignments.append(assignment)
        return ImageFeatures(self.norm(tokens), tuple(assignments), grid)

    def _positions(self, grid: tuple[int, int]) -> Tensor:
        """Return the positions of a grid, (1, L, D)."""
        if grid == self.position_grid:
            return self.positions
        cells = self.positions.transpose(1, 2).unflatten(2, self.position_grid)
        cells = F.interpolate(cells, size=grid, mode="bicubic", align_corners=False)
        return cells.flatten(2).transpose(1, 2)


def initialise_linear(module: nn.Module) -> None:
    """Draw the weights of a linear layer, as in vision transformers; for ``Module.apply``."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
