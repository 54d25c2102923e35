"""Layers of ViT-Adapter: a pyramid of maps and the tokens of a transformer influence each other.

Source: Chen et al., "Vision Transformer Adapter for Dense Predictions", ICLR 2023, section 3.3, and
its released code.

Shapes: B images, (h, w) the grid of the transformer's patches, N = h * w, D width of all tokens,
S = 4 N + N + N / 4 tokens of the pyramid, of levels (2 h, 2 w), (h, w) and (h / 2, w / 2).
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from segcore.deformable import DeformableAttention, Sizes, pixel_centres

from .vit import NORM

LEVELS = 3


class Geometry(NamedTuple):
    """Where the tokens of an image are.

    Attributes:
        sizes: (height, width) of the pyramid's levels, the finest first.
        centres: (x, y) of their tokens in 0 ... 1, (S, 2).
    """

    sizes: Sizes
    centres: Tensor

    @classmethod
    def of(cls, sizes: Sizes, device: torch.device) -> "Geometry":
        """Compute the centres of the tokens of levels."""
        with device:
            return cls(sizes, torch.cat([pixel_centres(*size) for size in sizes]))

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w), which is the size of the second level."""
        return self.sizes[1]

    def split(self, pyramid: Tensor, dim: int = 1) -> tuple[Tensor, ...]:
        """Split the pyramid's tokens, (B, S, C), into those of the levels."""
        return pyramid.split([math.prod(size) for size in self.sizes], dim)


class AttentionSizes(NamedTuple):
    """Sizes of deformable attention: D, heads, sampling points a level, width of the values."""

    width: int
    num_heads: int
    num_points: int
    value_width: int


class Interaction(nn.Module):
    """The pyramid's influence on the tokens before some blocks, and theirs on it afterwards."""

    def __init__(
        self,
        attention: AttentionSizes,
        feedforward: int,
        drop_path: float,
        layer_scale: float,
        num_extra: int,
    ) -> None:
        """
        Args:
            attention, feedforward, drop_path: of :class:`Extractor`.
            layer_scale: of :class:`Injector`.
            num_extra: number of extractors behind the first one.
        """
        super().__init__()
        self.injector = Injector(attention, layer_scale)
        self.extractor = Extractor(attention, feedforward, drop_path)
        self.extra_extractors = nn.ModuleList(
            Extractor(attention, feedforward, drop_path) for _ in range(num_extra)
        )

    def all_extractors(self) -> list[nn.Module]:
        """Return the extractor and the extra ones, in order."""
        return [self.extractor, *self.extra_extractors]


class CrossAttention(nn.Module):
    """Pre-norm deformable attention from tokens to those of feature maps."""

    def __init__(self, attention: AttentionSizes, num_levels: int) -> None:
        """
        Args:
            attention: its sizes.
            num_levels: of the feature maps.
        """
        super().__init__()
        width, *sizes = attention
        self.query_norm = NORM(width)
        self.feat_norm = NORM(width)
        self.attn = DeformableAttention(width, num_levels, *sizes)

    def attend(self, x: Tensor, centres: Tensor, features: Tensor, sizes: Sizes) -> Tensor:
        """Return the attention's output; autocast is off in here: locations need float32.

        Args:
            x: (B, Q, D), the tokens that attend.
            centres: (Q, 2), where they are.
            features: (B, S, D), what they attend to.
            sizes: of the levels of ``features``.
        """
        with torch.autocast(x.device.type, enabled=False):
            dtype = self.attn.value_proj.weight.dtype
            query, values = self.query_norm(x.to(dtype)), self.feat_norm(features.to(dtype))
            return self.attn(query, centres, values, sizes)


class Injector(CrossAttention):
    """Adds what the transformer's tokens find in the pyramid to them."""

    def __init__(self, attention: AttentionSizes, layer_scale: float) -> None:
        """
        Args:
            attention: its sizes.
            layer_scale: first value of the learned factors.
        """
        super().__init__(attention, LEVELS)
        self.gamma = nn.Parameter(layer_scale * torch.ones(attention.width))

    def forward(self, x: Tensor, pyramid: Tensor, geometry: Geometry) -> Tensor:
        """x (B, N, D), pyramid (B, S, D) -> like x."""
        centres = geometry.split(geometry.centres, dim=0)[1]
        return x + self.gamma * self.attend(x, centres, pyramid, geometry.sizes)


class Extractor(CrossAttention):
    """Adds what the pyramid's tokens find in those of the transformer to them."""

    def __init__(self, attention: AttentionSizes, feedforward: int, drop_path: float) -> None:
        """
        Args:
            attention: its sizes.
            feedforward: width inside the feed-forward network.
            drop_path: probability with which that network is left out in training.
        """
        super().__init__(attention, 1)
        self.ffn = ConvFeedForward(attention.width, feedforward)
        self.ffn_norm = NORM(attention.width)
        self.drop_path = StochasticDepth(drop_path, "row")

    def forward(self, pyramid: Tensor, x: Tensor, geometry: Geometry) -> Tensor:
        """pyramid (B, S, D), x (B, N, D) -> like pyramid."""
        pyramid = pyramid + self.attend(pyramid, geometry.centres, x, [geometry.grid])
        return pyramid + self.drop_path(self.ffn(self.ffn_norm(pyramid), geometry))


class ConvFeedForward(nn.Module):
    """Two linear layers, with a depth-wise convolution of every level between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.conv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, pyramid: Tensor, geometry: Geometry) -> Tensor:
        """(B, S, D) -> the same shape."""
        parts = zip(geometry.split(self.fc1(pyramid)), geometry.sizes, strict=True)
        hidden = torch.cat([to_tokens(self.conv(to_map(*part))) for part in parts], dim=1)
        return self.fc2(F.gelu(hidden))


def to_tokens(maps: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, h * w, C)."""
    return maps.flatten(2).transpose(1, 2)


def to_map(tokens: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, h * w, C) -> (B, C, h, w)."""
    return tokens.transpose(1, 2).unflatten(2, size)
