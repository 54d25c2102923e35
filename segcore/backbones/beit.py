"""BEiT: a Vision Transformer with relative positions, and a pyramid of its maps.

Source: Bao et al., "BEiT: BERT Pre-Training of Image Transformers", ICLR 2022, with the pyramid of
its released segmentation code. The blocks are timm's.

Shapes: B images, (H, W) an image, (h, w) its grid of patches, D width.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.modeling import Backbone
from timm.models.beit import Block
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .relative_positions import Grid, RelativePositions, token_index
from .swin import initialise_linear
from .vit import NORM, PatchEmbedding

STAGES = ("res2", "res3", "res4", "res5")


class BeitBlocks(Backbone):
    """The transformer: tokens of the patches, behind a class token, and the blocks."""

    def __init__(
        self,
        width: int,
        depth: int,
        num_heads: int,
        grid: Grid,
        *,
        patch_size: int = 16,
        in_channels: int = 3,
        mlp_ratio: float = 4.0,
        layer_scale: float = 1e-6,
        drop_path: float = 0.0,
        checkpointing: bool = False,
    ) -> None:
        """
        Args:
            width: D, a multiple of ``num_heads``.
            depth: number of blocks.
            grid: patches, down and across, that the tables of relative positions are made for;
                those of another grid are resampled.
            patch_size: side of the patches.
            mlp_ratio: width inside the MLPs over D.
            layer_scale: first value of the learned factors on the branches of a block.
            drop_path: probability with which the last block is left out in training; that of the
                others rises from 0 in a line.
            checkpointing: compute blocks again in the backward pass instead of keeping them.
        """
        super().__init__()
        self.checkpointing = checkpointing
        self.patch_embed = PatchEmbedding(in_channels, width, patch_size)
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        rates = [drop_path * index / max(depth - 1, 1) for index in range(depth)]
        self.blocks = nn.ModuleList(
            Block(
                width,
                num_heads,
                qkv_bias=True,
                mlp_ratio=mlp_ratio,
                drop_path=rate,
                init_values=layer_scale,
                norm_layer=NORM,
            )
            for rate in rates
        )
        self.positions = nn.ModuleList(RelativePositions(grid, num_heads) for _ in rates)
        self.apply(initialise_linear)
        nn.init.trunc_normal_(self.cls_token, std=0.02)

    def tokens(self, images: Tensor) -> tuple[Tensor, Grid]:
        """images (B, 3, H, W) -> tokens (B, 1 + h * w, D), the class token first, and (h, w)."""
        x = self.patch_embed(images)
        cls = self.cls_token.expand(len(x), -1, -1)
        return torch.cat([cls, x.flatten(2).transpose(1, 2)], dim=1), tuple(x.shape[-2:])

    def run(self, function: Callable[..., Tensor], *inputs: Any) -> Tensor:
        """Call a function of tensors, whose values may be computed again in the backward pass."""
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(function, *inputs, use_reentrant=False)
        return function(*inputs)

    def run_block(self, number: int, x: Tensor, grid: Grid, index: Tensor) -> Tensor:
        """Run a block: x (B, N, D) -> the same shape.

        Args:
            number: of the block.
            x: tokens, the class token first.
            grid: (h, w).
            index: :func:`token_index` of the grid.
        """
        return self.run(self._block, number, x, grid, index)

    def _block(self, number: int, x: Tensor, grid: Grid, index: Tensor) -> Tensor:
        """Run a block; its biases, the largest tensor, are made where they are needed."""
        biases = self.positions[number](grid, index)
        return self.blocks[number](x, shared_rel_pos_bias=biases)


class Beit(BeitBlocks):
    """Maps "res2" ... "res5" of D channels at a quarter, a half, once and twice the patch size."""

    def __init__(
        self,
        width: int,
        depth: int,
        num_heads: int,
        grid: Grid,
        out_blocks: Sequence[int],
        *,
        patch_size: int = 16,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
        out_features: Sequence[str] = STAGES,
        **options: Any,
    ) -> None:
        """
        Args:
            width, depth, num_heads, grid, options: of :class:`BeitBlocks`.
            out_blocks: the four blocks whose outputs make the maps, the first block is 0.
            patch_size: side of the patches, a multiple of 4.
            norm: from a number of channels to the norm of the pyramid.
            out_features: the maps to return.
        """
        super().__init__(width, depth, num_heads, grid, patch_size=patch_size, **options)
        self.out_blocks = tuple(out_blocks)
        self.pyramid = Pyramid(width, norm)
        self._out_features = list(out_features)
        self._out_feature_channels = dict.fromkeys(STAGES, width)
        strides = (patch_size // 4, patch_size // 2, patch_size, patch_size * 2)
        self._out_feature_strides = dict(zip(STAGES, strides, strict=True))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """images (B, 3, H, W) -> maps by name, (B, D, 4 h, 4 w) ... (B, D, h / 2, w / 2)."""
        maps = dict(zip(STAGES, self.pyramid(self.maps(images)), strict=True))
        return {name: maps[name] for name in self._out_features}

    def maps(self, images: Tensor) -> list[Tensor]:
        """Return the tokens of the patches after ``out_blocks``: each (B, D, h, w)."""
        x, grid = self.tokens(images)
        index, maps = token_index(grid).to(x.device), []
        for number in range(max(self.out_blocks) + 1):
            x = self.run_block(number, x, grid, index)
            if number in self.out_blocks:
                maps.append(x[:, 1:].transpose(1, 2).unflatten(2, grid))
        return maps


class Pyramid(nn.Module):
    """Bring four maps of one stride to a quarter, a half, once and twice that stride."""

    def __init__(self, width: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()

        def double() -> nn.Module:
            return nn.ConvTranspose2d(width, width, 2, stride=2)

        self.up4 = nn.Sequential(double(), norm(width), nn.GELU(), double())
        self.up2 = nn.Sequential(double())

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Four (B, D, h, w) -> those of (4 h, 4 w), (2 h, 2 w), (h, w) and (h / 2, w / 2)."""
        return [self.up4(maps[0]), self.up2(maps[1]), maps[2], F.max_pool2d(maps[3], 2)]
