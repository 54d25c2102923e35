"""Encoders by the name of their model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import open_clip
import torch

from segcore.errors import UserError, printable

from .base import EncoderOptions, ImageTextEncoder
from .clip import DenseCLIP
from .eva02 import EVA02
from .siglip import SigLIP
from .timm_trunk import TEXT_KEYS, TrunkEncoder, build_trunk

# Names of the published configs -> names of open_clip's model configs.
PUBLISHED_NAMES = {
    "ViT-B/16": "ViT-B-16-quickgelu",
    "ViT-L/14@336px": "ViT-L-14-336-quickgelu",
}
FOLDER = Path(__file__).parent

open_clip.add_model_config(FOLDER / "models")


def build_encoders(name: str, options: EncoderOptions | None = None) -> ImageTextEncoder:
    """Build the encoders of a model with random weights.

    Args:
        name: a published name of CAT-Seg ("ViT-B/16", "ViT-L/14@336px"), a model of open_clip that
            is a CLIP of plain transformers, an EVA-02-CLIP or a SigLIP, or one of
            ``catseg_d2/encoders/models``.
        options: of the encoders; SigLIP needs the file of its tokenizer.

    Raises:
        UserError: there is no such model, its encoders have no dense form here, or the options do
            not fit it.
    """
    options = options or EncoderOptions()
    config = _model_config(name)
    if _is_plain_clip(config):
        return DenseCLIP(name, config, options)
    kind = _trunk_encoder(config)
    if kind is not None and _fits(kind, config):
        return kind(name, config, build_trunk(config), options)
    raise UserError(
        f"MODEL.SEM_SEG_HEAD.CLIP_PRETRAINED is {printable(repr(name))}, whose encoders have no "
        "dense form here: use a CLIP of plain vision and text transformers, such as ViT-B/16, or "
        "an EVA-02-CLIP or SigLIP of open_clip, such as EVA02-L-14-336 or ViT-L-16-SigLIP-384."
    )


def _fits(kind: type[TrunkEncoder], config: Mapping[str, Any]) -> bool:
    """Return whether the image encoder, built with one block and no memory, is of the kind."""
    with torch.device("meta"):
        return kind.fits(build_trunk(config, depth=1))


def own_tokenizer(name: str) -> Path | None:
    """Return the tokenizer file of one of our own models; None for published models."""
    text = _model_config(name)["text_cfg"]
    path = FOLDER / "tokenizers" / str(text.get("hf_tokenizer_name") or "-")
    return path if path.is_file() else None


def _model_config(name: str) -> dict[str, Any]:
    config = open_clip.get_model_config(PUBLISHED_NAMES.get(name, name))
    if config is None:
        raise UserError(
            f"MODEL.SEM_SEG_HEAD.CLIP_PRETRAINED is {printable(repr(name))}, which open_clip does "
            f"not know: use {', '.join(PUBLISHED_NAMES)} or a name of open_clip.list_models()."
        )
    return config


def _is_plain_clip(config: Mapping[str, Any]) -> bool:
    vision, text = config["vision_cfg"], config["text_cfg"]
    special = (
        {"custom_text", "multimodal_cfg"} & set(config)
        or {"timm_model_name", "attentional_pool", "final_ln_after_pool"} & set(vision)
        or {"hf_model_name", "hf_tokenizer_name", "no_causal_mask", "pool_type"} & set(text)
        or not isinstance(vision["layers"], int)  # a list: the stages of a ResNet
    )
    return not special


def _trunk_encoder(config: Mapping[str, Any]) -> type[TrunkEncoder] | None:
    """Return the class for a model with an image encoder of timm, None if there is none."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    if not set(text) <= TEXT_KEYS or "custom_text" not in config or "quick_gelu" in config:
        return None
    if vision.get("timm_pool") == "token" and "no_causal_mask" not in text:
        return EVA02 if "eva02" in vision["timm_model_name"] else None
    as_siglip = (
        vision.get("timm_pool") == "map"
        and text.get("pool_type") == "last"
        and text.get("no_causal_mask")
        and text.get("proj_bias")
        and text.get("tokenizer_kwargs", {}).get("clean") == "canonicalize"
    )
    return SigLIP if as_siglip else None
