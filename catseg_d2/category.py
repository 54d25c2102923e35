"""Class aggregation: attention between the classes at each position.

Source: CAT-Seg (CVPR 2024), section 3.2; linear attention after Katharopoulos et al. (ICML 2020).

Shapes: B crops, T classes, (H, W) the feature grid, (h, w) the pooled grid, C width of the volume,
G width of the text guidance, d = C / heads.
"""

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcore.inference.precision import at_least_float32
from segcore.memory import recomputed

from .spatial import GuidedLinear


class ClassAggregation(nn.Module):
    """Attention over the class axis, and an MLP.

    Published models attend over at least ``padded_classes`` classes: fewer are padded with a
    trainable padding token. All paddings are equal, so one is computed and weighted by its number.
    """

    def __init__(
        self,
        width: int,
        guidance_width: int,
        num_heads: int,
        pooling: tuple[int, int],
        attention: str = "linear",
        padded_classes: int = 256,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.pooling = tuple(pooling)
        self.attention = ATTENTION_TYPES[attention]
        self.padded_classes = padded_classes
        self.norm1 = nn.LayerNorm(width)
        self.query = GuidedLinear(width, guidance_width, width)
        self.key = GuidedLinear(width, guidance_width, width)
        self.value = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width)
        )
        self.padding_token = nn.Parameter(torch.zeros(1, 1, width))
        self.padding_guidance = nn.Parameter(torch.zeros(1, 1, guidance_width))

    def forward(self, volume: Tensor, guidance: Tensor, chunk: int) -> Tensor:
        """Aggregate over the classes, ``chunk`` of them at a time.

        Args:
            volume: (B, T, H, W, C).
            guidance: (B, T, G).
            chunk: classes per chunk; the result does not depend on it.
        Returns:
            (B, T, H, W, C).
        """
        padding = max(self.padded_classes - volume.shape[1], 0)
        pad_normed = self.norm1(self.padding_token)
        pad_key = self._split(self.key(pad_normed, self.padding_guidance)).flatten(0, 2)
        pad_value = self._split(self.value(pad_normed)).flatten(0, 2)

        volumes = volume.split(chunk, dim=1)
        guidances = guidance[:, :, None, None].split(chunk, dim=1)
        tokens = [self._pool(part) for part in volumes]  # (B, chunk, h, w, C)
        normed = [self.norm1(part) for part in tokens]
        context = self.attention.summarise(
            (
                (self._split(self.key(n, g)), self._split(self.value(n)))
                for n, g in zip(normed, guidances, strict=True)
            ),
            (pad_key, pad_value, padding),
        )
        result = []
        for part, token, n, g in zip(volumes, tokens, normed, guidances, strict=True):
            attended = self.attention.attend(self._split(self.query(n, g)), context)
            token = token + attended.flatten(-2)
            token = token + recomputed(lambda x: self.mlp(self.norm2(x)), token)
            # The pooled input is part of the token already: it counts twice, as published.
            result.append(part + self._unpool(token, part.shape[2:4]))
        return torch.cat(result, dim=1)

    def _split(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., heads, d)."""
        return x.unflatten(-1, (self.num_heads, -1))

    def _pool(self, volume: Tensor) -> Tensor:
        """(B, T, H, W, C) -> (B, T, h, w, C)."""
        if self.pooling == (1, 1):
            return volume
        maps = volume.flatten(0, 1).permute(0, 3, 1, 2)
        maps = F.avg_pool2d(maps, self.pooling)
        return maps.permute(0, 2, 3, 1).unflatten(0, volume.shape[:2])

    def _unpool(self, tokens: Tensor, resolution: tuple[int, int]) -> Tensor:
        """(B, T, h, w, C) -> (B, T, H, W, C)."""
        if self.pooling == (1, 1):
            return tokens
        maps = tokens.flatten(0, 1).permute(0, 3, 1, 2)
        maps = F.interpolate(maps, tuple(resolution), mode="bilinear", align_corners=True)
        return maps.permute(0, 2, 3, 1).unflatten(0, tokens.shape[:2])


class LinearAttention:
    """Attention with the kernel elu + 1: keys and values enter through two sums over classes."""

    @staticmethod
    def summarise(
        keys_values: Iterable[tuple[Tensor, Tensor]], pad: tuple[Tensor, Tensor, int]
    ) -> tuple[Tensor, Tensor]:
        """Summarise keys and values for the queries.

        Args:
            keys_values: key and value of a chunk of classes, each (B, t, h, w, heads, d).
            pad: key and value (heads, d) of the padding token, and the number of paddings.
        Returns:
            Sum of key times value (B, h, w, heads, d, d), and of keys (B, h, w, heads, d).
        """
        pad_key, pad_value, padding = pad
        pad_key = F.elu(pad_key) + 1
        # The sums over classes are float32 under autocast, too.
        memory = at_least_float32(padding * pad_key[:, :, None] * pad_value[:, None, :])
        mass = at_least_float32(padding * pad_key)
        for key, value in keys_values:
            key = F.elu(key) + 1
            memory = memory + torch.einsum("bthwnd,bthwne->bhwnde", key, value)
            mass = mass + key.sum(dim=1)
        return memory, mass

    @staticmethod
    def attend(query: Tensor, context: tuple[Tensor, Tensor]) -> Tensor:
        """query (B, t, h, w, heads, d) -> (B, t, h, w, heads, d)."""
        memory, mass = context
        query = F.elu(query) + 1
        norm = torch.einsum("bthwnd,bhwnd->bthwn", query, mass) + 1e-6
        return torch.einsum("bthwnd,bhwnde->bthwne", query, memory) / norm[..., None]


class SoftmaxAttention:
    """Softmax attention, with the interface of :class:`LinearAttention`."""

    @staticmethod
    def summarise(
        keys_values: Iterable[tuple[Tensor, Tensor]], pad: tuple[Tensor, Tensor, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return keys and values (B, h, w, heads, T + 1, d), and a bias of the T + 1 scores.

        One padding key with log(padding) added to its score has the weight of ``padding`` keys.
        """
        keys, values = zip(*keys_values, strict=True)
        *pad_tokens, padding = pad
        keys, values = (
            torch.cat([*parts, pad_token.expand_as(parts[0][:, :1])], dim=1).movedim(1, -2)
            for parts, pad_token in zip((keys, values), pad_tokens, strict=True)
        )
        bias = keys.new_zeros(keys.shape[-2])
        bias[-1] = math.log(padding) if padding else -math.inf
        return keys, values, bias

    @staticmethod
    def attend(query: Tensor, context: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """query (B, t, h, w, heads, d) -> (B, t, h, w, heads, d)."""
        keys, values, bias = context
        query = query.movedim(1, -2)
        attended = F.scaled_dot_product_attention(query, keys, values, attn_mask=bias[None])
        return attended.movedim(-2, 1)


ATTENTION_TYPES = {"linear": LinearAttention, "full": SoftmaxAttention}
