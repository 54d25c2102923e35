"""CLIP's image and text encoder with dense image embeddings: one per patch.

The encoders are open_clip's modules with two changes: query, key and value are three matrices
instead of one, so that they can be fine-tuned separately, and the last vision block omits
attention. Source: CAT-Seg (CVPR 2024), section 3.1, after MaskCLIP (ECCV 2022).

Shapes: B crops, N = h*w patches, D vision width, C joint width, L tokens, K prompts.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import open_clip
import torch
from torch import Tensor, nn

from segcore.text import ClipTokenizer

from .attention import SplitAttention
from .base import EncoderOptions, ImageTextEncoder, resize_positions
from .names import split_fused_attention
from .text import causal_embeddings, run_block


class DenseCLIP(ImageTextEncoder):
    """CLIP's image encoder with dense embeddings, and its text encoder.

    Parameter names are those of OpenAI's and open_clip's checkpoints, except for the split
    attention.
    """

    PIXEL_MEAN = (122.7709383, 116.7460125, 104.09373615)
    PIXEL_STD = (68.5005327, 66.6321579, 70.3231630)
    CLASS_TOKENS = 1

    def __init__(self, name: str, config: Mapping[str, Any], options: EncoderOptions) -> None:
        """Build the encoders with random weights.

        Args:
            name: of the model, for error messages.
            config: of open_clip, of plain transformers.
            options: visual prompts of the last block have no effect, since its dense form has no
                attention.
        """
        super().__init__(options)
        clip = open_clip.CLIP(**config)
        self.visual = clip.visual
        self.transformer = clip.transformer
        self.token_embedding = clip.token_embedding
        self.positional_embedding = clip.positional_embedding
        self.ln_final = clip.ln_final
        self.text_projection = clip.text_projection
        self.logit_scale = clip.logit_scale
        for block in (*self.visual.transformer.resblocks, *self.transformer.resblocks):
            block.attn = SplitAttention.from_fused(block.attn)
        self.finish(name)

    @property
    def vision_width(self) -> int:
        return self.visual.conv1.out_channels

    @property
    def text_width(self) -> int:
        return self.positional_embedding.shape[1]

    @property
    def joint_width(self) -> int:
        return self.visual.proj.shape[1]

    @property
    def patch_size(self) -> int:
        return self.visual.conv1.kernel_size[0]

    @property
    def tokenizer(self) -> ClipTokenizer:
        return ClipTokenizer(self.positional_embedding.shape[0])

    @property
    def vision_blocks(self) -> Sequence[nn.Module]:
        return self.visual.transformer.resblocks

    @property
    def mixing_blocks(self) -> Sequence[nn.Module]:
        """All blocks but the last, whose attention gathers the global embedding."""
        return self.visual.transformer.resblocks[:-1]

    def embed_patches(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        patches = self.visual.conv1(images)  # (B, D, h, w)
        h, w = patches.shape[-2:]
        x = patches.flatten(2).transpose(1, 2)  # (B, N, D)
        x = torch.cat([self.visual.class_embedding.expand(len(x), 1, -1), x], dim=1)
        of_class, of_patches = self.visual.positional_embedding.tensor_split([1])
        positions = torch.cat([of_class, resize_positions(of_patches, (h, w))])
        return self.visual.ln_pre(x + positions), (h, w)

    def run_vision_block(self, block: nn.Module, x: Tensor, grid: tuple[int, int]) -> Tensor:
        return run_block(block, x)

    def read_out_dense(self, x: Tensor) -> Tensor:
        """Run the last block without attention: each token attends to itself only.

        The residual of every position is that of the class token, unless the options say its own.
        The published models were trained this way.
        """
        last = self.visual.transformer.resblocks[-1]
        residual = self.dense_residual(x) + last.ls_1(last.attn.value_path(last.ln_1(x)))
        x = residual + last.ls_2(last.mlp(last.ln_2(residual)))
        return self.visual.ln_post(x) @ self.visual.proj

    def read_out_global(self, x: Tensor) -> Tensor:
        return self.visual.ln_post(x[:, 0]) @ self.visual.proj

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Return unit-norm embeddings (K, C) of token ids (K, L), zero-padded after end of text."""
        return causal_embeddings(self, tokens, self.run)

    def text_state(self) -> Iterator[nn.Parameter]:
        for module in (self.transformer, self.token_embedding, self.ln_final):
            yield from module.parameters()
        yield from (self.positional_embedding, self.text_projection)

    def from_published(self, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return weights with OpenAI's and open_clip's names under ours."""
        return split_fused_attention(state_dict)
