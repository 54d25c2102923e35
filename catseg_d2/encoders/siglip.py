"""SigLIP's image and text encoder with dense image embeddings.

The image encoder has no class token: a learned query attends to all patches. Sources: Zhai et al.,
"Sigmoid Loss for Language Image Pre-Training", ICCV 2023; of the dense embeddings CAT-Seg (CVPR
2024), section 3.1 and supplement C.2.

Shapes: as in ``base.py``; p = 0.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from timm.layers import AttentionPoolLatent
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from segcore.memory import recomputed
from segcore.text.siglip import SiglipTokenizer

from . import names
from .attention import SplitAttention, with_zero_gradient
from .base import EncoderOptions, resize_positions
from .text import full_embeddings
from .timm_trunk import TrunkEncoder


class SigLIP(TrunkEncoder):
    """SigLIP. Its image encoder is timm's, with separate attention matrices.

    Attributes:
        logit_bias: of the sigmoid loss that the encoders were trained with; nothing reads it.
    """

    PIXEL_MEAN = (127.5, 127.5, 127.5)
    PIXEL_STD = (127.5, 127.5, 127.5)
    CLASS_TOKENS = 0
    NAMES = names.SIGLIP

    def __init__(
        self, name: str, config: Mapping[str, Any], trunk: nn.Module, options: EncoderOptions
    ) -> None:
        for block in trunk.blocks:
            block.attn = SplitAttention.from_timm(block.attn)
        trunk.attn_pool = LatentPooling(trunk.attn_pool)
        super().__init__(name, config, trunk, options)
        bias = config.get("init_logit_bias", -10)
        self.logit_bias = nn.Parameter(torch.tensor(float(bias)), requires_grad=False)
        self._tokenizer = SiglipTokenizer(
            options.tokenizer,
            context_length=self.text.context_length,
            num_tokens=self.text.vocab_size,
            model=name,
        )

    @staticmethod
    def fits(trunk: nn.Module) -> bool:
        return (
            isinstance(trunk, VisionTransformer)
            and isinstance(trunk.attn_pool, AttentionPoolLatent)
            and trunk.num_prefix_tokens == 0
        )

    @property
    def tokenizer(self) -> SiglipTokenizer:
        return self._tokenizer

    def idle_parameters(self) -> Iterator[nn.Parameter]:
        yield self.logit_bias

    def embed_patches(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        patches = self.trunk.patch_embed.proj(images)  # (B, D, h, w)
        h, w = patches.shape[-2:]
        x = patches.flatten(2).transpose(1, 2)
        return x + resize_positions(self.trunk.pos_embed[0], (h, w)), (h, w)

    def run_vision_block(self, block: nn.Module, x: Tensor, grid: tuple[int, int]) -> Tensor:
        x = x + block.attn(block.norm1(x))
        return x + recomputed(lambda x: block.mlp(block.norm2(x)), x)

    def read_out_dense(self, x: Tensor) -> Tensor:
        """Run the pooling as if the learned query attended to each patch alone."""
        return self.trunk.attn_pool.dense(self.trunk.norm(x))

    def read_out_global(self, x: Tensor) -> Tensor:
        return self.trunk.attn_pool(self.trunk.norm(x))

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Return unit-norm embeddings (K, C) of token ids (K, L), rows of the full length."""
        return full_embeddings(self.text, tokens, self.run)


class LatentPooling(nn.Module):
    """Pooling by a learned query that attends to all tokens, with separate attention matrices."""

    def __init__(self, fused: AttentionPoolLatent) -> None:
        """Convert the pooling of timm, with the same weights."""
        super().__init__()
        self.latent = fused.latent
        self.attn = SplitAttention.from_weights(
            fused.num_heads,
            torch.cat([fused.q.weight, fused.kv.weight]).detach(),
            torch.cat([fused.q.bias, fused.kv.bias]).detach(),
            fused.proj,
        )
        self.norm, self.mlp = fused.norm, fused.mlp

    def forward(self, x: Tensor) -> Tensor:
        """Pool tokens: x (B, N, D) -> (B, D)."""
        pooled = self.attn(x, query=self.latent.expand(len(x), -1, -1))[:, 0]
        return pooled + self.mlp(self.norm(pooled))

    def dense(self, x: Tensor) -> Tensor:
        """Pool each token on its own: x (B, N, D) -> (B, N, D)."""
        x = self.attn.value_path(with_zero_gradient(x, self.latent))
        return x + self.mlp(self.norm(x))
