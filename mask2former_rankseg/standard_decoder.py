"""Standard transformer decoder: queries attend to one feature map, everywhere (MaskFormer).

Source: Cheng et al., "Per-Pixel Classification is Not All You Need for Semantic Segmentation",
NeurIPS 2021, section 3.3; the layers are those of DETR (Carion et al., ECCV 2020).

Shapes: B images, Q queries, C classes, D the width of the queries, (h, w) the map of the mask
features, S positions of the feature map that the queries attend to.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from segcore.rankseg.layers import sine_positions

from .queries import Decoded, DecoderLayer, QueryDecoder, mask_logits


class StandardDecoder(QueryDecoder):
    """Layers of self-attention, then cross-attention to one map, with both heads after each."""

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        width: int = 256,
        mask_width: int = 256,
        num_queries: int = 100,
        num_layers: int = 6,
        num_heads: int = 8,
        feedforward: int = 2048,
        dropout: float = 0.1,
        project: bool = False,
        cosine_classes: bool = False,
    ) -> None:
        """
        Args:
            in_channels: of the feature map.
            num_classes: C.
            width: D, a multiple of 4 and of ``num_heads``.
            mask_width: channels of the mask features.
            num_queries: Q.
            num_layers, num_heads, feedforward, dropout: of the transformer.
            project: project the feature map even where it has D channels.
            cosine_classes: class logits are cosines, without a bias.
        """
        super().__init__(num_classes, width, mask_width, cosine_classes)
        self.query_embed = nn.Embedding(num_queries, width)
        self.input_proj = None
        if project or in_channels != width:
            self.input_proj = nn.Conv2d(in_channels, width, kernel_size=1)
            nn.init.kaiming_uniform_(self.input_proj.weight, a=1)
            nn.init.zeros_(self.input_proj.bias)
        self.layers = nn.ModuleList(
            DecoderLayer(width, num_heads, feedforward, dropout=dropout, self_first=True)
            for _ in range(num_layers)
        )

    def forward(
        self, levels: Sequence[Tensor], mask_features: Tensor, every_layer: bool
    ) -> Decoded:
        """
        Args:
            levels: the feature map (B, in_channels, h_0, w_0), and no other.
            mask_features: (B, mask_width, h, w).
            every_layer: predict after every layer, not after the last one alone.
        """
        (level,) = levels
        if self.input_proj is not None:
            level = self.input_proj(level)
        value = level.flatten(2).transpose(1, 2)
        with level.device:
            key = value + sine_positions(*level.shape[-2:], level.shape[1]).to(value.dtype)
        query_embed = self.query_embed.weight
        x = torch.zeros_like(query_embed).expand(len(value), -1, -1)
        states = []
        for layer in self.layers:
            x = layer(x, query_embed, key, value)
            states.append(x)
        predictions = []
        for state in states if every_layer else states[-1:]:
            y = self.norm(state)
            masks = mask_logits(self.mask_embed(y), mask_features)
            predictions.append((self.class_logits(y), masks))
        return Decoded(predictions, states, mask_features)
