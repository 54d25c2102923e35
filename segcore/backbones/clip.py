"""Read CLIP's image encoder as a plain Vision Transformer, to train segmenters from it.

Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision",
ICML 2021. The names are OpenAI's, which open_clip and the checkpoints of CAT-Seg have, too.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from segcore.checkpoint.renaming import Renaming

# The encoder alone, in CLIP, in a contrastive model or CAT-Seg of ours, in a published CAT-Seg.
PREFIX = re.compile(r"(?:clip\.|sem_seg_head\.predictor\.clip_model\.)?visual\.")
FIRST_LAYER = "conv1.weight"

# CLIP's names and those of timm, which are ours.
NAMES = Renaming(
    [
        ("conv1.weight", "patch_embed.proj.weight"),
        ("class_embedding", "cls_token"),
        ("positional_embedding", "positions"),
        ("ln_pre.*", "pre_norm.*"),
        ("ln_post.*", "norm.*"),
        ("transformer.resblocks.#.ln_1.*", "blocks.#.norm1.*"),
        ("transformer.resblocks.#.ln_2.*", "blocks.#.norm2.*"),
        ("transformer.resblocks.#.mlp.c_fc.*", "blocks.#.mlp.fc1.*"),
        ("transformer.resblocks.#.mlp.c_proj.*", "blocks.#.mlp.fc2.*"),
        ("transformer.resblocks.#.attn.in_proj_weight", "blocks.#.attn.qkv.weight"),
        ("transformer.resblocks.#.attn.in_proj_bias", "blocks.#.attn.qkv.bias"),
        ("transformer.resblocks.#.attn.out_proj.*", "blocks.#.attn.proj.*"),
    ]
)
SPLIT = re.compile(r"(.+\.attn\.)q_proj_weight")


def image_encoder(tensors: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Return the weights of CLIP's image encoder under the names of the Vision Transformer.

    Args:
        tensors: of a checkpoint of CLIP or CAT-Seg; other entries are ignored.
    Returns:
        The weights without the projection to the space of texts; None if the checkpoint has no
        such encoder, as that of a ResNet.
    """
    visual = {
        name[match.end() :]: value
        for name, value in tensors.items()
        if (match := PREFIX.match(name))
    }
    if FIRST_LAYER not in visual or "class_embedding" not in visual:
        return None
    visual.pop("proj", None)
    for name in [name for name in visual if SPLIT.fullmatch(name)]:
        stem = SPLIT.fullmatch(name)[1]
        parts = [visual.pop(f"{stem}{part}_proj_weight") for part in "qkv"]
        visual[f"{stem}in_proj_weight"] = torch.cat(parts)
    weights = {NAMES.to_ours(name): value for name, value in visual.items()}
    weights["cls_token"] = weights["cls_token"].reshape(1, 1, -1)
    weights["positions"] = weights["positions"].unsqueeze(0)
    return weights
