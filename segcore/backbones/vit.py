"""The plain Vision Transformer: tokens of one stride, and class tokens on request.

Source: Dosovitskiy et al., "An Image is Worth 16x16 Words: Transformers for Image Recognition at
Scale", ICLR 2021, in the form that Segmenter uses (Strudel et al., ICCV 2021). The blocks are
timm's.

Shapes: B images, (H, W) an image, (h, w) its grid of patches, D width, K classes.
"""

import math
from functools import partial

import torch
import torch.nn.functional as F
from detectron2.modeling import Backbone
from timm.layers import get_act_layer
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from segcore.errors import UserError

from .swin import initialise_linear

NORM = partial(nn.LayerNorm, eps=1e-6)


class VisionTransformer(Backbone):
    """The map "tokens" (B, D, h, w) of the last block after the final norm, for images of any size.

    With class embeddings also "classes" (B, K, D): they enter the last block beside the tokens and
    leave through the final norm.
    """

    def __init__(
        self,
        width: int,
        depth: int,
        num_heads: int,
        grid: tuple[int, int],
        *,
        patch_size: int = 16,
        in_channels: int = 3,
        mlp_ratio: float = 4.0,
        patch_bias: bool = True,
        pre_norm: bool = False,
        activation: str = "gelu",
        drop_path: float = 0.0,
        num_classes: int = 0,
        checkpointing: bool = False,
    ) -> None:
        """
        Args:
            width: D, a multiple of ``num_heads``.
            depth: number of blocks.
            grid: patches, down and across, that the learned positions are made for; those of
                another grid are interpolated.
            patch_size: side of the patches, which do not overlap.
            mlp_ratio: width inside the MLPs over D.
            patch_bias: whether the patches' convolution has a bias.
            pre_norm: whether the tokens pass a norm before the first block, as in CLIP.
            activation: of the MLPs, by timm's name; OpenAI's CLIP has "quick_gelu".
            drop_path: probability with which the last block is left out in training; that of the
                others rises from 0 in a line.
            num_classes: K class embeddings; 0 for none.
            checkpointing: compute blocks again in the backward pass instead of keeping them.
        """
        super().__init__()
        self.grid, self.checkpointing = grid, checkpointing
        self.patch_embed = PatchEmbedding(in_channels, width, patch_size, patch_bias)
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.positions = nn.Parameter(torch.empty(1, 1 + grid[0] * grid[1], width))
        self.class_embeddings = (
            nn.Parameter(torch.empty(1, num_classes, width)) if num_classes else None
        )
        self.pre_norm = NORM(width) if pre_norm else nn.Identity()
        rates = [drop_path * index / max(depth - 1, 1) for index in range(depth)]
        self.blocks = nn.ModuleList(
            Block(
                width,
                num_heads,
                mlp_ratio,
                qkv_bias=True,
                drop_path=rate,
                act_layer=get_act_layer(activation),
                norm_layer=NORM,
            )
            for rate in rates
        )
        self.norm = NORM(width)
        self._out_features = ["tokens"]
        self._out_feature_channels = {"tokens": width}
        self._out_feature_strides = {"tokens": patch_size}
        self.apply(initialise_linear)
        for table in (self.cls_token, self.positions, self.class_embeddings):
            if table is not None:
                nn.init.trunc_normal_(table, std=0.02)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """images (B, 3, H, W) -> "tokens" (B, D, h, w); "classes" (B, K, D) if there are any."""
        x = self.patch_embed(images)
        grid = x.shape[-2:]
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x.flatten(2).transpose(1, 2)], dim=1)
        x = self.pre_norm(x + resize_positions(self.positions, self.grid, grid))
        for block in self.blocks[:-1]:
            x = self._run(block, x)
        if self.class_embeddings is not None:
            x = torch.cat([x, self.class_embeddings.expand(len(x), -1, -1)], dim=1)
        x = self.norm(self._run(self.blocks[-1], x))[:, 1:]
        tokens, classes = x.tensor_split([math.prod(grid)], dim=1)
        features = {"tokens": tokens.transpose(1, 2).unflatten(2, grid)}
        return features if self.class_embeddings is None else features | {"classes": classes}

    def fit_parameter(self, name: str, value: Tensor) -> Tensor:
        """Fit the positions of a checkpoint: see :func:`fit_positions`."""
        return fit_positions(value, self.grid) if name == "positions" else value

    def _run(self, block: nn.Module, x: Tensor) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(block, x, use_reentrant=False)
        return block(x)


class PatchEmbedding(nn.Module):
    """Embed every patch as a token; the image is padded with zeros to whole patches."""

    def __init__(self, in_channels: int, width: int, patch_size: int, bias: bool = True) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv2d(in_channels, width, patch_size, stride=patch_size, bias=bias)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, D, h, w), h = H / patch and w = W / patch rounded up."""
        height, width = images.shape[-2:]
        padding = (0, -width % self.patch_size, 0, -height % self.patch_size)  # right, bottom
        return self.proj(F.pad(images, padding))


def resize_positions(positions: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Interpolate the positions of a grid bicubically; that of the class token is kept.

    Args:
        positions: (1, 1 + h * w, D), the class token's first, then row by row.
        old, new: (h, w).
    Returns:
        (1, 1 + h' * w', D).
    """
    if tuple(old) == tuple(new):
        return positions
    cells = positions[:, 1:].unflatten(1, tuple(old)).permute(0, 3, 1, 2)
    cells = F.interpolate(cells, size=tuple(new), mode="bicubic", align_corners=False)
    return torch.cat([positions[:, :1], cells.flatten(2).transpose(1, 2)], dim=1)


def fit_positions(positions: Tensor, grid: tuple[int, int]) -> Tensor:
    """Resize the positions of a checkpoint, which are those of a square grid, to another grid.

    Raises:
        UserError: they are of another grid that is not square.
    """
    cells = positions.shape[1] - 1
    if cells == math.prod(grid):
        return positions
    side = math.isqrt(max(cells, 0))
    if side == 0 or side * side != cells:
        raise UserError(
            f"the checkpoint holds positions of {cells} patches, no square grid: set "
            f"MODEL.VIT.IMAGE_SIZE to the size that it was trained at"
        )
    return resize_positions(positions, (side, side), grid)
