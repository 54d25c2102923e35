"""ViT-Adapter: a plain transformer that exchanges information with a pyramid of convolutions.

Source: Chen et al., "Vision Transformer Adapter for Dense Predictions", ICLR 2023, section 3, and
its released code, with BEiT as the transformer.

Shapes: B images, (H, W) an image, (h, w) its grid of patches of 16 x 16, D width of all tokens.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcore.deformable import DeformableAttention
from segcore.errors import UserError

from .adapter_layers import LEVELS, AttentionSizes, Geometry, Interaction, to_map, to_tokens
from .beit import STAGES, BeitBlocks
from .relative_positions import Grid, token_index
from .swin import initialise_linear

PATCH, STRIDES = 16, (4, 8, 16, 32)
EXTRA = 2  # extractors of the last interaction behind the first one

Norm = Callable[[int], nn.Module]


class BeitAdapter(BeitBlocks):
    """BEiT with an adapter: maps "res2" ... "res5" of D channels at strides 4, 8, 16 and 32."""

    def __init__(
        self,
        width: int,
        depth: int,
        num_heads: int,
        grid: Grid,
        interactions: Sequence[Sequence[int]],
        *,
        in_channels: int = 3,
        prior_width: int = 64,
        deform_heads: int = 16,
        num_points: int = 4,
        feedforward_ratio: float = 0.25,
        value_ratio: float = 0.5,
        layer_scale: float = 1e-6,
        drop_path: float = 0.0,
        norm: Norm = nn.BatchNorm2d,
        out_features: Sequence[str] = STAGES,
        **options: Any,
    ) -> None:
        """
        Args:
            width, depth, num_heads, grid, options: of :class:`BeitBlocks`.
            interactions: four, each the first and the last block between its two exchanges; all
                blocks in order.
            prior_width: channels of the first convolutions.
            deform_heads, num_points: of the deformable attention.
            feedforward_ratio: width inside the pyramid's feed-forward networks over D.
            value_ratio: width of the values of the deformable attention over D.
            layer_scale: first value of the factors on the branches of a block and on the pyramid's
                influence on the tokens.
            drop_path: as of :class:`BeitBlocks`, and of the pyramid's feed-forward networks.
            norm: from a number of channels to a norm of maps.
            out_features: the maps to return.
        """
        super().__init__(
            width,
            depth,
            num_heads,
            grid,
            patch_size=PATCH,
            in_channels=in_channels,
            layer_scale=layer_scale,
            drop_path=drop_path,
            **options,
        )
        self.ranges = [range(first, last + 1) for first, last in interactions]
        self.spm = SpatialPrior(in_channels, width, prior_width, norm)
        self.level_embed = nn.Parameter(torch.randn(LEVELS, width))
        sizes = AttentionSizes(width, deform_heads, num_points, int(width * value_ratio))
        feedforward = int(width * feedforward_ratio)
        self.interactions = nn.ModuleList(
            Interaction(sizes, feedforward, drop_path, layer_scale, num_extra)
            for num_extra in (0, 0, 0, EXTRA)
        )
        self.up = nn.ConvTranspose2d(width, width, 2, stride=2)
        for level in range(1, len(STRIDES) + 1):
            self.add_module(f"norm{level}", norm(width))
        for part in (self.spm, self.interactions, self.up):
            part.apply(_initialise)
        self._out_features = list(out_features)
        self._out_feature_channels = dict.fromkeys(STAGES, width)
        self._out_feature_strides = dict(zip(STAGES, STRIDES, strict=True))

    @property
    def size_divisibility(self) -> int:
        return STRIDES[-1]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """images (B, 3, H, W), H and W multiples of 32 -> maps by name, (B, D, H / s, W / s).

        Raises:
            UserError: the sides are no multiples of 32.
        """
        if any(side % self.size_divisibility for side in images.shape[-2:]):
            raise UserError(
                f"ViT-Adapter takes sides that are multiples of {STRIDES[-1]}: let the model pad "
                f"its images to them (SIZE_DIVISIBILITY {STRIDES[-1]})"
            )
        fine, *levels = self.spm(images)
        geometry = Geometry.of([tuple(level.shape[-2:]) for level in levels], images.device)
        pyramid = torch.cat(
            [to_tokens(x) + e for x, e in zip(levels, self.level_embed, strict=True)], dim=1
        )
        pyramid, states = self._interact(images, pyramid, geometry)
        maps = [to_map(*part) for part in zip(geometry.split(pyramid), geometry.sizes, strict=True)]
        maps = [self.up(maps[0]) + fine, *maps]
        for number, state in enumerate(states):
            resized = F.interpolate(state, maps[number].shape[-2:], mode="bilinear")
            maps[number] = getattr(self, f"norm{number + 1}")(maps[number] + resized)
        named = dict(zip(STAGES, maps, strict=True))
        return {name: named[name] for name in self._out_features}

    def _interact(
        self, images: Tensor, pyramid: Tensor, geometry: Geometry
    ) -> tuple[Tensor, list[Tensor]]:
        """Run the blocks and the exchanges between them.

        Args:
            images: (B, 3, H, W).
            pyramid: its tokens (B, S, D), level after level.
            geometry: where they are.
        Returns:
            The pyramid's tokens, and the map (B, D, h, w) of the patches after each interaction.
        """
        tokens, grid = self.tokens(images)
        index, states = token_index(grid).to(tokens.device), []
        for blocks, interaction in zip(self.ranges, self.interactions, strict=True):
            cls, x = tokens.tensor_split([1], dim=1)
            x = self.run(interaction.injector, x, pyramid, geometry)
            tokens = torch.cat([cls, x], dim=1)
            for number in blocks:
                tokens = self.run_block(number, tokens, grid, index)
            for extractor in interaction.all_extractors():
                pyramid = self.run(extractor, pyramid, tokens[:, 1:], geometry)
            states.append(to_map(tokens[:, 1:], grid))
        return pyramid, states


class SpatialPrior(nn.Module):
    """Convolutions of the image: maps of D channels at strides 4, 8, 16 and 32."""

    def __init__(self, in_channels: int, width: int, prior_width: int, norm: Norm) -> None:
        super().__init__()

        def conv(before: int, after: int, stride: int) -> list[nn.Module]:
            weights = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
            return [weights, norm(after), nn.ReLU()]

        self.stem = nn.Sequential(
            *conv(in_channels, prior_width, 2),
            *conv(prior_width, prior_width, 1),
            *conv(prior_width, prior_width, 1),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        widths = [prior_width, 2 * prior_width, 4 * prior_width, 4 * prior_width]
        for level, (before, after) in enumerate(pairwise(widths), start=2):
            self.add_module(f"conv{level}", nn.Sequential(*conv(before, after, 2)))
        for level, channels in enumerate(widths, start=1):
            self.add_module(f"fc{level}", nn.Conv2d(channels, width, 1))

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> four maps (B, D, H / s, W / s)."""
        x = self.stem(images)
        maps = [self.fc1(x)]
        for level in range(2, len(STRIDES) + 1):
            x = getattr(self, f"conv{level}")(x)
            maps.append(getattr(self, f"fc{level}")(x))
        return maps


def _initialise(module: nn.Module) -> None:
    """Initialise as the released code: convolutions by their fan-out, and deformable attention."""
    initialise_linear(module)
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    if isinstance(module, DeformableAttention):  # after its layers, which apply visits first
        module.reset_parameters()
