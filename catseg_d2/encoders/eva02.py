"""EVA-02-CLIP's image and text encoder with dense image embeddings.

The image encoder has rotary positions besides learned ones, and a layer norm of the attended values
and inside the MLP. Sources: Fang et al., "EVA-02: A Visual Representation for Neon Genesis", 2023;
Sun et al., "EVA-CLIP: Improved Training Techniques for CLIP at Scale", 2023; of the dense
embeddings CAT-Seg (CVPR 2024), section 3.1 and supplement C.2.

Shapes: as in ``base.py``; p = 1.
"""

from collections.abc import Sequence

import torch
from timm.models.eva import Eva, EvaBlock
from torch import Tensor, nn

from segcore.memory import recomputed
from segcore.text import ClipTokenizer

from . import names
from .attention import with_zero_gradient
from .base import resize_positions
from .text import causal_embeddings
from .timm_trunk import TrunkEncoder


class EVA02(TrunkEncoder):
    """EVA-02-CLIP. Its image encoder is timm's, its text encoder that of CLIP."""

    PIXEL_MEAN = (122.7709383, 116.7460125, 104.09373615)
    PIXEL_STD = (68.5005327, 66.6321579, 70.3231630)
    CLASS_TOKENS = 1
    NAMES = names.EVA02

    @staticmethod
    def fits(trunk: nn.Module) -> bool:
        return (
            isinstance(trunk, Eva)
            and isinstance(trunk.blocks[0], EvaBlock)
            and trunk.blocks[0].attn.qkv is None
            and trunk.rope is not None
            and trunk.global_pool == "token"
            and trunk.num_prefix_tokens == 1
        )

    @property
    def tokenizer(self) -> ClipTokenizer:
        return ClipTokenizer(self.text.context_length)

    @property
    def mixing_blocks(self) -> Sequence[nn.Module]:
        """All blocks but the last, whose attention gathers the global embedding."""
        return self.trunk.blocks[:-1]

    def embed_patches(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        patches = self.trunk.patch_embed.proj(images)  # (B, D, h, w)
        h, w = patches.shape[-2:]
        x = patches.flatten(2).transpose(1, 2)
        x = torch.cat([self.trunk.cls_token.expand(len(x), -1, -1), x], dim=1)
        of_class, of_patches = self.trunk.pos_embed[0].tensor_split([1])
        return x + torch.cat([of_class, resize_positions(of_patches, (h, w))]), (h, w)

    def run_vision_block(self, block: nn.Module, x: Tensor, grid: tuple[int, int]) -> Tensor:
        x = x + block.attn(block.norm1(x), rope=self._rotations(grid, x.shape[1]))
        return x + recomputed(lambda x: block.mlp(block.norm2(x)), x)

    def _rotations(self, grid: tuple[int, int], length: int) -> Tensor:
        """Return sines and cosines (length - 1, 2 * head width) of all tokens but the class token.

        Visual prompts, which come first, are not rotated.
        """
        table = self.trunk.rope.get_embed(list(grid))
        prompts = length - 1 - len(table)
        sines, cosines = table.new_zeros(2, prompts, table.shape[1] // 2)
        return torch.cat([torch.cat([sines, cosines + 1], dim=1), table])

    def read_out_dense(self, x: Tensor) -> Tensor:
        """Run the last block without attention: each token attends to itself only.

        The values are not rotated, and pass the layer norm of the attended values.
        """
        last, trunk = self.trunk.blocks[-1], self.trunk
        attention = last.attn
        value = attention.v_proj(last.norm1(x))
        value = with_zero_gradient(
            value, *attention.q_proj.parameters(), *attention.k_proj.parameters()
        )
        x = self.dense_residual(x) + attention.proj(attention.norm(value))
        x = x + last.mlp(last.norm2(x))
        return trunk.head(trunk.norm(x))

    def read_out_global(self, x: Tensor) -> Tensor:
        return self.trunk.head(self.trunk.norm(x[:, 0]))

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Return unit-norm embeddings (K, C) of token ids (K, L), zero-padded after end of text."""
        return causal_embeddings(self.text, tokens, self.run)
