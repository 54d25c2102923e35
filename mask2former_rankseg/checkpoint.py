"""Load published Mask2Former and RankSeg checkpoints, and checkpoints of a pre-trained backbone."""

import logging
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from segcore.backbones import published as backbones
from segcore.backbones.checkpoint import backbone_weights
from segcore.checkpoint.renaming import Renaming
from segcore.checkpoint.weights import is_for_use, without_other_shapes
from segcore.errors import UserError

logger = logging.getLogger(__name__)

BACKBONE = "backbone."
PIXEL, PREDICTOR = "sem_seg_head.pixel_decoder.", "sem_seg_head.predictor."


def _patterns() -> list[tuple[str, str]]:
    """Return the pairs (published, ours) of a :class:`Renaming`."""
    pairs = [
        (PIXEL + "transformer.level_embed", PIXEL + "level_embed"),
        (PIXEL + "transformer.encoder.layers.#.self_attn.*", PIXEL + "layers.#.attention.*"),
        (PIXEL + "transformer.encoder.layers.#.*", PIXEL + "layers.#.*"),
    ]
    for published, ours in (("adapter_1.", "lateral."), ("layer_1.", "smooth.")):
        pairs.append((f"{PIXEL}{published}norm.*", f"{PIXEL}{ours}1.*"))
        pairs.append((f"{PIXEL}{published}*", f"{PIXEL}{ours}0.*"))
    for kind, inner in (("cross", "multihead_attn"), ("self", "self_attn")):
        published = f"{PREDICTOR}transformer_{kind}_attention_layers.#."
        ours = f"{PREDICTOR}layers.#.{kind}_"
        for part in ("weight", "bias"):
            pairs.append((f"{published}{inner}.in_proj_{part}", f"{ours}attention.in_proj.{part}"))
        pairs.append((f"{published}{inner}.out_proj.*", f"{ours}attention.out_proj.*"))
        pairs.append((f"{published}norm.*", f"{ours}norm.*"))
    # The MLP of mask embeddings: its layers are numbered without or with the activations between.
    for index in range(3):
        pairs.append(
            (f"{PREDICTOR}mask_embed.layers.{index}.*", f"{PREDICTOR}mask_embed.{2 * index}.*")
        )
    return [
        *pairs,
        (PREDICTOR + "transformer_ffn_layers.#.*", PREDICTOR + "layers.#.*"),
        (PREDICTOR + "decoder_norm.*", PREDICTOR + "norm.*"),
        (PREDICTOR + "class_embed.*", PREDICTOR + "classifier.*"),
        ("ml_head.cls_emb", "ranking.head.class_embeddings"),
        ("ml_head.proj_dec.*", "ranking.head.input_proj.*"),
        ("ml_head.fc.W", "ranking.head.classifier.weight"),
        ("ml_head.fc.b", "ranking.head.classifier.bias"),
        ("ml_head.*", "ranking.head.*"),
        ("ml_norm.*", "ranking.scores.*"),
    ]


NAMES = Renaming(_patterns())


def from_published(name: str) -> str:
    """Return our name of a published parameter, from a current or an older checkpoint."""
    name = name.replace(".static_query.", ".query_feat.")
    if name.startswith("sem_seg_head.") and not name.startswith((PIXEL, PREDICTOR)):
        name = PIXEL + name.removeprefix("sem_seg_head.")
    return NAMES.to_ours(name)


def to_published(name: str) -> str:
    """Return the published name of one of our parameters."""
    return NAMES.to_published(name)


def rename_published(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Rename published parameters to ours, in place: a ``load_state_dict`` pre-hook of the model.

    A checkpoint of a pre-trained backbone fills the backbone; all other parameters keep their
    values. Parameters of another shape, such as the classifier of other classes, are left out; the
    caller decides whether a checkpoint may lack them.

    Raises:
        UserError: a checkpoint of a backbone, where the model is loaded for inference.
    """
    names = [key.removeprefix(prefix) for key in state_dict if key.startswith(prefix)]
    tensors = {name: state_dict.pop(prefix + name) for name in names}
    # Weights of the classes in the loss, which the config determines.
    tensors.pop("criterion.empty_weight", None)
    current = module.state_dict()
    pretrained = _pretrained(module, tensors)
    if pretrained is None:
        converted = backbones.load_published(module.backbone, tensors)
        renamed = {from_published(name): value for name, value in converted.items()}
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
