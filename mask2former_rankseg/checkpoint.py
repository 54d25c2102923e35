"""Load published checkpoints of MaskFormer, Mask2Former and RankSeg, and of a backbone alone."""

import logging
import re
from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor, nn

from segcore.backbones import published as backbones
from segcore.backbones.checkpoint import backbone_weights
from segcore.checkpoint.renaming import Renaming
from segcore.checkpoint.weights import is_for_use, without_other_shapes
from segcore.errors import UserError

from . import mmdet_names

logger = logging.getLogger(__name__)

BACKBONE = "backbone."
PIXEL, PREDICTOR = "sem_seg_head.pixel_decoder.", "sem_seg_head.predictor."


MOST_MAPS = 8  # of a feature pyramid; backbones have five

MASK2FORMER = "Mask2Former"
ENCODED = "MaskFormer with a transformer encoder"
MASKFORMER = "MaskFormer without a transformer encoder"
IN_FEATURES = {
    MASK2FORMER: "multi_scale_pixel_decoder",
    ENCODED: "transformer_encoder",
    MASKFORMER: "a map of the backbone, such as res5",
}
# Parameters that one layout alone has, by published names or ours; the first match wins. Names that
# occur in several layouts do not do: fvcore drops entries whose shapes are not those of the model.
MARKS = {
    MASK2FORMER: re.compile(re.escape(PREDICTOR) + r"(query_feat|static_query|level_embed)\..+"),
    ENCODED: re.compile(re.escape(PIXEL) + r"(encoder\.)?input_proj\.(weight|bias)"),
    MASKFORMER: re.compile(
        rf"{re.escape(PIXEL)}(lateral|smooth)\.\d+\.\d+\..+"
        rf"|{re.escape(PREDICTOR)}transformer\.decoder\..+"
    ),
}


def _conv_norm(published: str, ours: str) -> list[tuple[str, str]]:
    """Return the patterns of a convolution and its norm."""
    return [(f"{published}.norm.*", f"{ours}.1.*"), (f"{published}.*", f"{ours}.0.*")]


def _attention(published: str, ours: str) -> list[tuple[str, str]]:
    """Return the patterns of an attention, without a dot at the end."""
    parts = [
        (f"{published}.in_proj_{part}", f"{ours}.in_proj.{part}") for part in ("weight", "bias")
    ]
    return [*parts, (f"{published}.out_proj.*", f"{ours}.out_proj.*")]


def _of_mask2former() -> list[tuple[str, str]]:
    """Return the pairs (published, ours) of a :class:`Renaming`."""
    pairs = [
        (PIXEL + "transformer.level_embed", PIXEL + "level_embed"),
        (PIXEL + "transformer.encoder.layers.#.self_attn.*", PIXEL + "layers.#.attention.*"),
        (PIXEL + "transformer.encoder.layers.#.*", PIXEL + "layers.#.*"),
        *_conv_norm(PIXEL + "adapter_1", PIXEL + "lateral"),
        *_conv_norm(PIXEL + "layer_1", PIXEL + "smooth"),
    ]
    for kind, inner in (("cross", "multihead_attn"), ("self", "self_attn")):
        published = f"{PREDICTOR}transformer_{kind}_attention_layers.#"
        ours = f"{PREDICTOR}layers.#.{kind}"
        pairs += _attention(f"{published}.{inner}", f"{ours}_attention")
        pairs.append((f"{published}.norm.*", f"{ours}_norm.*"))
    return [
        *pairs,
        (PREDICTOR + "transformer_ffn_layers.#.*", PREDICTOR + "layers.#.*"),
        (PREDICTOR + "decoder_norm.*", PREDICTOR + "norm.*"),
    ]


def _of_maskformer() -> list[tuple[str, str]]:
    """Return the same for MaskFormer, with or without a transformer encoder."""
    encoder, decoder = PIXEL + "transformer.encoder.layers.#", PREDICTOR + "transformer.decoder"
    pairs = [
        (PIXEL + "input_proj.*", PIXEL + "encoder.input_proj.*"),
        *_attention(f"{encoder}.self_attn", PIXEL + "encoder.layers.#.attention"),
        (f"{encoder}.*", PIXEL + "encoder.layers.#.*"),
    ]
    for index in range(MOST_MAPS):
        pairs += _conv_norm(f"{PIXEL}adapter_{index + 1}", f"{PIXEL}lateral.{index}")
        pairs += _conv_norm(f"{PIXEL}layer_{index + 1}", f"{PIXEL}smooth.{index}")
    for kind, inner in (("cross", "multihead_attn"), ("self", "self_attn")):
        ours = f"{PREDICTOR}layers.#.{kind}_attention"
        pairs += _attention(f"{decoder}.layers.#.{inner}", ours)
    for number, norm in ((1, "self_norm"), (2, "cross_norm"), (3, "norm")):
        pairs.append((f"{decoder}.layers.#.norm{number}.*", f"{PREDICTOR}layers.#.{norm}.*"))
    return [
        *pairs,
        (f"{decoder}.layers.#.*", f"{PREDICTOR}layers.#.*"),
        (f"{decoder}.norm.*", f"{PREDICTOR}norm.*"),
    ]


def _of_both() -> list[tuple[str, str]]:
    """Return the pairs of the heads and of RankSeg."""
    # The MLP of mask embeddings: its layers are numbered without or with the activations between.
    mlp = [
        (f"{PREDICTOR}mask_embed.layers.{index}.*", f"{PREDICTOR}mask_embed.{2 * index}.*")
        for index in range(3)
    ]
    return [
        *mlp,
        (PREDICTOR + "class_embed.*", PREDICTOR + "classifier.*"),
        ("ml_head.cls_emb", "ranking.head.class_embeddings"),
        ("ml_head.proj_dec.*", "ranking.head.input_proj.*"),
        ("ml_head.fc.W", "ranking.head.classifier.weight"),
        ("ml_head.fc.b", "ranking.head.classifier.bias"),
        ("ml_head.*", "ranking.head.*"),
        ("ml_norm.*", "ranking.scores.*"),
    ]


_MASKFORMER_NAMES = Renaming(_of_both() + _of_maskformer())
NAMES = {
    MASK2FORMER: Renaming(_of_both() + _of_mask2former()),
    ENCODED: _MASKFORMER_NAMES,
    MASKFORMER: _MASKFORMER_NAMES,
}
MMDET_NAMES = Renaming(mmdet_names.pairs())


def layout_of(names: Collection[str]) -> str | None:
    """Return the layout of parameters by their names, published or ours; None for no decoder."""
    return next((key for key, mark in MARKS.items() if any(map(mark.fullmatch, names))), None)


def names_of(model: nn.Module) -> Renaming:
    """Return the table of a model's published names."""
    return NAMES[layout_of(model.state_dict().keys()) or MASK2FORMER]


def current_name(name: str) -> str:
    """Return the name of today's published code for one of an older checkpoint."""
    name = name.replace(".static_query.", ".query_feat.")
    if name.startswith("sem_seg_head.") and not name.startswith((PIXEL, PREDICTOR)):
        name = PIXEL + name.removeprefix("sem_seg_head.")
    return name


def to_mmdet(model: nn.Module, name: str) -> str:
    """Return the name of one of a model's parameters in files of ViT-Adapter's release."""
    return MMDET_NAMES.to_published(backbones.to_published(model.backbone, name))


def rename_published(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Rename published parameters to ours, in place: a ``load_state_dict`` pre-hook of the model.

    A checkpoint of a pre-trained backbone fills the backbone; all other parameters keep their
    values. Parameters of another shape, such as the classifier of other classes, are left out; the
    caller decides whether a checkpoint may lack them.

    Raises:
        UserError: a checkpoint of a backbone, where the model is loaded for inference; or one of
            the other decoder.
    """
    names = [key.removeprefix(prefix) for key in state_dict if key.startswith(prefix)]
    tensors = {name: state_dict.pop(prefix + name) for name in names}
    # Weights of the classes in the loss, which the config determines.
    tensors.pop("criterion.empty_weight", None)
    current = module.state_dict()
    pretrained = _pretrained(module, tensors)
    if pretrained is None:
        converted = backbones.load_published(module.backbone, tensors)
        converted = {MMDET_NAMES.to_ours(name): value for name, value in converted.items()}
        converted = {current_name(name): value for name, value in converted.items()}
        _check_layout(layout_of(converted.keys()), layout_of(current.keys()))
        to_ours = names_of(module).to_ours
        renamed = {to_ours(name): value for name, value in converted.items()}
    elif is_for_use(module):
        raise UserError(
            "the checkpoint holds a backbone alone: train from it, and predict with the result"
        )
    else:
        logger.warning("the checkpoint holds a backbone: all other weights keep their values")
        others = {name: value for name, value in current.items() if not name.startswith(BACKBONE)}
        renamed = others | pretrained
    renamed = without_other_shapes(renamed, current)
    state_dict.update({prefix + name: value for name, value in renamed.items()})


def _pretrained(module: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Return our entries of the backbone from a checkpoint of a backbone alone; else None."""
    found = backbones.load_pretrained(module.backbone, tensors)
    if found is None and (weights := backbone_weights(tensors)) is not None:
        found = {BACKBONE + name: value for name, value in weights.items()}
    return found


def _check_layout(held: str | None, described: str | None) -> None:
    """Refuse the checkpoint of another decoder than the config describes."""
    if held and described and held != described:
        raise UserError(
            f"the checkpoint is one of {held}, but the config describes {described}: take the "
            "config that it was trained with, whose MODEL.MASK_FORMER.TRANSFORMER_IN_FEATURE is "
            f"{IN_FEATURES[held]}"
        )
