"""CLIP's image and text encoder with dense image embeddings: one per patch.

The encoders are open_clip's modules with two changes: query, key and value are three matrices
instead of one, so that they can be fine-tuned separately, and the last vision block omits
attention. Source: CAT-Seg (CVPR 2024), section 3.1, after MaskCLIP (ECCV 2022).

Shapes: B crops, N = h*w patches, D vision width, C joint width, L tokens, K prompts.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcore.errors import UserError
from segcore.memory import recomputed

from .base import ImageTextEncoder, resize_positions

# Names of the published configs -> names of open_clip's model configs.
PUBLISHED_NAMES = {
    "ViT-B/16": "ViT-B-16-quickgelu",
    "ViT-L/14@336px": "ViT-L-14-336-quickgelu",
}

open_clip.add_model_config(Path(__file__).parent / "models")


class SplitAttention(nn.Module):
    """Multi-head self-attention whose query, key and value matrices are separate parameters."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_proj_weight = nn.Parameter(torch.empty(width, width))
        self.k_proj_weight = nn.Parameter(torch.empty(width, width))
        self.v_proj_weight = nn.Parameter(torch.empty(width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    @classmethod
    def from_fused(cls, fused: nn.MultiheadAttention) -> "SplitAttention":
        """Convert a module with one fused matrix, with the same weights."""
        split = cls(fused.embed_dim, fused.num_heads)
        weights = fused.in_proj_weight.detach().chunk(3)
        with torch.no_grad():
            for parameter, weight in zip(split.projections(), weights, strict=True):
                parameter.copy_(weight)
            split.in_proj_bias.copy_(fused.in_proj_bias)
        split.out_proj.load_state_dict(fused.out_proj.state_dict())
        return split

    def projections(self) -> tuple[nn.Parameter, nn.Parameter, nn.Parameter]:
        """Return the matrices of query, key and value, each (width, width)."""
        return self.q_proj_weight, self.k_proj_weight, self.v_proj_weight

    def forward(self, x: Tensor, is_causal: bool = False) -> Tensor:
        """x (B, L, width) -> (B, L, width)."""
        q, k, v = (
            F.linear(x, weight, bias).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for weight, bias in zip(self.projections(), self.in_proj_bias.chunk(3), strict=True)
        )  # each (B, heads, L, width / heads)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=is_causal)
        return self.out_proj(attended.transpose(1, 2).flatten(2))

    def value_path(self, x: Tensor) -> Tensor:
        """Attend to the token itself only: x (B, L, width) -> (B, L, width)."""
        value = F.linear(x, self.v_proj_weight, self.in_proj_bias.chunk(3)[2])
        if self.training:
            # Query and key are not used, but distributed training needs a gradient: zero.
            value = value + 0.0 * (self.q_proj_weight.sum() + self.k_proj_weight.sum())
        return self.out_proj(value)


def run_block(block: nn.Module, x: Tensor, is_causal: bool = False) -> Tensor:
    """Run a pre-norm transformer block of open_clip on x (B, L, width)."""
    x = x + block.ls_1(block.attn(block.ln_1(x), is_causal=is_causal))
    return x + recomputed(lambda x: block.ls_2(block.mlp(block.ln_2(x))), x)


class DenseCLIP(ImageTextEncoder):
    """CLIP's image encoder with dense embeddings, and its text encoder.

    Parameter names are those of OpenAI's and open_clip's checkpoints, except for the split
    attention.
    """

    PIXEL_MEAN = (122.7709383, 116.7460125, 104.09373615)
    PIXEL_STD = (68.5005327, 66.6321579, 70.3231630)
    CLASS_TOKENS = 1

    def __init__(
        self,
        name: str,
        *,
        prompt_length: int = 0,
        prompt_depth: int = 0,
        checkpointing: bool = False,
    ) -> None:
        """Build the encoders with random weights.

        Args:
            name: a published name ("ViT-B/16", "ViT-L/14@336px"), a model config of open_clip, or
                one of ``catseg_d2/encoders/models``.
            prompt_length, prompt_depth: visual prompt tuning: ``prompt_length`` trainable tokens in
                each of the first ``prompt_depth`` blocks. Those of the last block have no effect,
                since its dense form has no attention.
            checkpointing: recompute the blocks in the backward pass instead of keeping activations.
        """
        super().__init__(checkpointing)
        clip = _build_open_clip(name)
        self.visual = clip.visual
        self.transformer = clip.transformer
        self.token_embedding = clip.token_embedding
        self.positional_embedding = clip.positional_embedding
        self.ln_final = clip.ln_final
        self.text_projection = clip.text_projection
        self.logit_scale = clip.logit_scale
        for block in (*self.visual.transformer.resblocks, *self.transformer.resblocks):
            block.attn = SplitAttention.from_fused(block.attn)
        self.finish(name, prompt_length, prompt_depth)

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
    def context_length(self) -> int:
        return self.positional_embedding.shape[0]

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

        The residual of every position is that of the class token. The published models were
        trained this way.
        """
        last = self.visual.transformer.resblocks[-1]
        residual = x[:, :1] + last.ls_1(last.attn.value_path(last.ln_1(x)))
        x = residual + last.ls_2(last.mlp(last.ln_2(residual)))
        return self.visual.ln_post(x) @ self.visual.proj

    def read_out_global(self, x: Tensor) -> Tensor:
        return self.visual.ln_post(x[:, 0]) @ self.visual.proj

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Return unit-norm embeddings (K, C) of token ids (K, L), zero-padded after end of text.

        Columns that are padding in every row are not computed: attention is causal, so tokens after
        the end-of-text token do not affect it.
        """
        end = tokens.argmax(dim=-1)  # end of text has the largest id
        length = int(end.max()) + 1
        x = self.token_embedding(tokens[:, :length]) + self.positional_embedding[:length]
        for block in self.transformer.resblocks:
            x = self.run(partial(run_block, block, is_causal=True), x)
        x = self.ln_final(x[torch.arange(len(x), device=x.device), end])
        return F.normalize(x @ self.text_projection, dim=-1)

    def text_state(self) -> Iterator[nn.Parameter]:
        for module in (self.transformer, self.token_embedding, self.ln_final):
            yield from module.parameters()
        yield from (self.positional_embedding, self.text_projection)


def _build_open_clip(name: str) -> open_clip.CLIP:
    """Build open_clip's model ``name`` with random weights; refuse one without a dense form."""
    model_name = PUBLISHED_NAMES.get(name, name)
    config = open_clip.get_model_config(model_name)
    if config is None:
        raise UserError(
            f"MODEL.SEM_SEG_HEAD.CLIP_PRETRAINED is '{name}', which open_clip does not know: use "
            f"{', '.join(PUBLISHED_NAMES)} or a name of open_clip.list_models()."
        )
    vision, text = config["vision_cfg"], config["text_cfg"]
    special = (
        {"custom_text", "multimodal_cfg"} & set(config)
        or {"timm_model_name", "attentional_pool", "final_ln_after_pool"} & set(vision)
        or {"hf_model_name", "hf_tokenizer_name", "no_causal_mask", "pool_type"} & set(text)
        or not isinstance(vision["layers"], int)  # a list: the stages of a ResNet
    )
    if special:
        raise UserError(
            f"MODEL.SEM_SEG_HEAD.CLIP_PRETRAINED is '{name}', whose encoders have no dense form "
            "here: use a CLIP of plain vision and text transformers, such as ViT-B/16."
        )
    return open_clip.CLIP(**config)


def split_fused_attention(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Split the fused ``in_proj_weight`` (3w, w) of OpenAI's and open_clip's files into three."""
    split = {}
    for key, value in state_dict.items():
        if key.endswith("attn.in_proj_weight"):
            stem = key.removesuffix("in_proj_weight")
            for part, matrix in zip("qkv", value.chunk(3), strict=True):
                split[f"{stem}{part}_proj_weight"] = matrix
        else:
            split[key] = value
    return split
