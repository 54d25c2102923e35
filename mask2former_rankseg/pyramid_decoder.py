"""Pixel decoder of MaskFormer: a feature pyramid, optionally on top of a transformer encoder.

Source: Cheng et al., "Per-Pixel Classification is Not All You Need for Semantic Segmentation",
NeurIPS 2021, section 3.3 and appendix; the encoder is that of DETR (Carion et al., ECCV 2020).

Shapes: B images, C the width of the decoder, (h_i, w_i) the feature maps of the backbone, S
positions of the coarsest one.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from segcore.rankseg.layers import sine_positions

from .pixel_decoder import EncoderLayer, conv_norm
from .queries import Attention


class SelfAttentionLayer(EncoderLayer):
    """An encoder layer whose attention is that of all positions to all."""

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """x (B, S, C), positions (S, C) -> (B, S, C)."""
        query = x + positions
        return self.update(x, self.attention(query, query, x))


class MapEncoder(nn.Module):
    """A transformer encoder on the positions of a feature map."""

    def __init__(
        self,
        in_channels: int,
        width: int = 256,
        *,
        num_layers: int = 6,
        num_heads: int = 8,
        feedforward: int = 2048,
        dropout: float = 0.1,
    ) -> None:
        """
        Args:
            in_channels: of the map.
            width: C, a multiple of 4 and of ``num_heads``.
            num_layers, num_heads, feedforward, dropout: of the transformer.
        """
        super().__init__()
        self.input_proj = nn.Conv2d(in_channels, width, kernel_size=1)
        nn.init.kaiming_uniform_(self.input_proj.weight, a=1)
        nn.init.zeros_(self.input_proj.bias)
        self.layers = nn.ModuleList(
            SelfAttentionLayer(Attention(width, num_heads, dropout), width, feedforward, dropout)
            for _ in range(num_layers)
        )

    def forward(self, features: Tensor) -> Tensor:
        """features (B, in_channels, h, w) -> (B, C, h, w)."""
        projected = self.input_proj(features)
        channels, *size = projected.shape[1:]
        x = projected.flatten(2).transpose(1, 2)
        with x.device:
            positions = sine_positions(*size, channels).to(x.dtype)
        for layer in self.layers:
            x = layer(x, positions)
        return x.transpose(1, 2).unflatten(-1, size)


class PyramidDecoder(nn.Module):
    """Adds the coarser maps to the finer ones, from the coarsest on, and predicts mask features."""

    def __init__(
        self,
        channels: Sequence[int],
        *,
        width: int = 256,
        mask_width: int = 256,
        encoder: MapEncoder | None = None,
    ) -> None:
        """
        Args:
            channels: of the feature maps, finest first.
            width: C, a multiple of 32.
            mask_width: channels of the mask features.
            encoder: of the coarsest map, to C channels; None: the pyramid begins at the map itself.
        """
        super().__init__()
        self.encoder = encoder
        self.lateral = nn.ModuleList(conv_norm(number, width, 1) for number in channels[:-1])
        top = channels[-1] if encoder is None else width
        inputs = [*(width for _ in channels[:-1]), top]
        self.smooth = nn.ModuleList(conv_norm(number, width, 3) for number in inputs)
        self.mask_features = nn.Conv2d(width, mask_width, kernel_size=3, padding=1)
        for conv in (*(block[0] for block in (*self.lateral, *self.smooth)), self.mask_features):
            nn.init.kaiming_uniform_(conv.weight, a=1)
        nn.init.zeros_(self.mask_features.bias)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the mask features (B, mask_width, h_0, w_0) and the top of the pyramid.

        The latter is the encoder's output (B, C, h, w), or without encoder the coarsest map.

        Args:
            maps: (B, channels_i, h_i, w_i), finest first.
        """
        *finer, coarsest = maps
        top = coarsest if self.encoder is None else self.encoder(coarsest)
        x = F.relu(self.smooth[-1](top))
        for i in reversed(range(len(finer))):
            x = self.lateral[i](finer[i]) + F.interpolate(x, finer[i].shape[-2:], mode="nearest")
            x = F.relu(self.smooth[i](x))
        return self.mask_features(x), top
