"""Names of published weights of encoders -> ours, and fused matrices -> separate ones.

Ours are open_clip's, except that query, key and value of an attention are separate matrices, and
that the read-out attention of SigLIP has the names of the others. An encoder's own layouts:

- open_clip's files, ``visual.trunk.`` and ``text.``; of the image encoder alone timm's, without a
  prefix;
- EVA-02's authors' files (``visual.blocks.``);
- SigLIP's files for transformers (``vision_model.``, ``text_model.``).
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from segcore.checkpoint.renaming import Renaming

TRUNK = "visual.trunk."

# EVA-02's authors' names -> ours.
EVA02 = Renaming(
    [
        ("visual.blocks.#.attn.q_bias", "visual.trunk.blocks.#.attn.q_proj.bias"),
        ("visual.blocks.#.attn.v_bias", "visual.trunk.blocks.#.attn.v_proj.bias"),
        ("visual.blocks.#.attn.inner_attn_ln.*", "visual.trunk.blocks.#.attn.norm.*"),
        ("visual.blocks.#.mlp.w1.*", "visual.trunk.blocks.#.mlp.fc1_g.*"),
        ("visual.blocks.#.mlp.w2.*", "visual.trunk.blocks.#.mlp.fc1_x.*"),
        ("visual.blocks.#.mlp.w3.*", "visual.trunk.blocks.#.mlp.fc2.*"),
        ("visual.blocks.#.mlp.ffn_ln.*", "visual.trunk.blocks.#.mlp.norm.*"),
        ("visual.blocks.*", "visual.trunk.blocks.*"),
        ("visual.cls_token", "visual.trunk.cls_token"),
        ("visual.pos_embed", "visual.trunk.pos_embed"),
        ("visual.patch_embed.*", "visual.trunk.patch_embed.*"),
        ("visual.norm.*", "visual.trunk.norm.*"),
        ("visual.head.*", "visual.trunk.head.*"),
    ]
)

# SigLIP's names in timm and open_clip, then in transformers -> ours.
_BLOCK, _LAYER = "visual.trunk.blocks.#.", "vision_model.encoder.layers.#."
_TEXT_BLOCK, _TEXT_LAYER = "text.transformer.resblocks.#.", "text_model.encoder.layers.#."
_POOL, _HEAD = "visual.trunk.attn_pool.", "vision_model.head."
SIGLIP = Renaming(
    [
        (_BLOCK + "attn.qkv.weight", _BLOCK + "attn.in_proj_weight"),
        (_BLOCK + "attn.qkv.bias", _BLOCK + "attn.in_proj_bias"),
        (_BLOCK + "attn.proj.*", _BLOCK + "attn.out_proj.*"),
        (_POOL + "q.weight", _POOL + "attn.q_proj_weight"),
        (_POOL + "q.bias", _POOL + "attn.q_proj_bias"),
        (_POOL + "kv.weight", _POOL + "attn.kv_proj_weight"),
        (_POOL + "kv.bias", _POOL + "attn.kv_proj_bias"),
        (_POOL + "proj.*", _POOL + "attn.out_proj.*"),
        *(
            (f"{layer}self_attn.{part}_proj.{kind}", f"{block}attn.{part}_proj_{kind}")
            for layer, block in ((_LAYER, _BLOCK), (_TEXT_LAYER, _TEXT_BLOCK))
            for part in "qkv"
            for kind in ("weight", "bias")
        ),
        (_LAYER + "self_attn.out_proj.*", _BLOCK + "attn.out_proj.*"),
        (_LAYER + "layer_norm1.*", _BLOCK + "norm1.*"),
        (_LAYER + "layer_norm2.*", _BLOCK + "norm2.*"),
        (_LAYER + "mlp.*", _BLOCK + "mlp.*"),
        ("vision_model.embeddings.patch_embedding.*", "visual.trunk.patch_embed.proj.*"),
        ("vision_model.embeddings.position_embedding.weight", "visual.trunk.pos_embed"),
        ("vision_model.post_layernorm.*", "visual.trunk.norm.*"),
        (_HEAD + "probe", _POOL + "latent"),
        (_HEAD + "attention.*", _POOL + "attn.*"),
        (_HEAD + "layernorm.*", _POOL + "norm.*"),
        (_HEAD + "mlp.*", _POOL + "mlp.*"),
        (_TEXT_LAYER + "self_attn.out_proj.*", _TEXT_BLOCK + "attn.out_proj.*"),
        (_TEXT_LAYER + "layer_norm1.*", _TEXT_BLOCK + "ln_1.*"),
        (_TEXT_LAYER + "layer_norm2.*", _TEXT_BLOCK + "ln_2.*"),
        (_TEXT_LAYER + "mlp.fc1.*", _TEXT_BLOCK + "mlp.c_fc.*"),
        (_TEXT_LAYER + "mlp.fc2.*", _TEXT_BLOCK + "mlp.c_proj.*"),
        ("text_model.embeddings.token_embedding.weight", "text.token_embedding.weight"),
        ("text_model.embeddings.position_embedding.weight", "text.positional_embedding"),
        ("text_model.final_layer_norm.*", "text.ln_final.*"),
        ("text_model.head.*", "text.text_projection.*"),
    ]
)

# Computed by the model: indices of positions, tables of rotary positions.
_COMPUTED = re.compile(r".*\.(position_ids|rope\.[^.]+|attn_mask)")


def rename_weights(state_dict: Mapping[str, Tensor], names: Renaming) -> dict[str, Tensor]:
    """Return published weights of an image encoder of timm and its text encoder under our names.

    Args:
        state_dict: in any layout of the module docstring, or in ours.
        names: of the encoders.
    """
    prefix = TRUNK if "patch_embed.proj.weight" in state_dict else ""  # timm's file
    renamed = {
        names.to_ours(prefix + key): value
        for key, value in state_dict.items()
        if not _COMPUTED.fullmatch(key)
    }
    for key, value in renamed.items():
        if key.startswith("logit_"):
            renamed[key] = value.reshape(())  # transformers' have the shape (1,)
    positions = renamed.get(TRUNK + "pos_embed")
    if positions is not None and positions.ndim == 2:  # transformers': (N, D)
        renamed[TRUNK + "pos_embed"] = positions[None]
    return join_biases(split_fused_attention(renamed))


def split_fused_attention(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Split fused matrices (2w or 3w, w) of attentions into those of query, key and value."""
    split = {}
    for key, value in state_dict.items():
        match = re.fullmatch(r"(.*attn\.)(in|kv)_proj_weight", key)
        if match:
            parts = "kv" if match[2] == "kv" else "qkv"
            for part, matrix in zip(parts, value.chunk(len(parts)), strict=True):
                split[f"{match[1]}{part}_proj_weight"] = matrix
        else:
            split[key] = value
    return split


def join_biases(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Join the biases of query, key and value, the inverse of what some layouts do."""
    joined = dict(state_dict)
    for key in state_dict:
        stem = key.removesuffix("q_proj_bias")
        for parts in (("q", "k", "v"), ("q", "kv")):
            names = [f"{stem}{part}_proj_bias" for part in parts]
            if stem != key and all(name in joined for name in names):
                joined[stem + "in_proj_bias"] = torch.cat([joined.pop(name) for name in names])
    return joined
