"""Load the published checkpoints of per-pixel models, and those of a backbone to train from.

The backbone's names and values are those of :mod:`segcore.backbones.published`; the tables of the
heads are in ``names/``.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from segcore.backbones import published as backbones
from segcore.backbones.checkpoint import backbone_weights
from segcore.backbones.swin import SwinTransformer
from segcore.checkpoint.renaming import Renaming
from segcore.checkpoint.weights import is_for_use, without_other_shapes
from segcore.errors import UserError
from segcore.rankseg.heads import DecoderHead, EncoderHead, PoolingHead

from .classifier import PixelHead
from .deeplabv3plus import DeepLabV3Plus
from .embeddings import EmbeddingHead
from .names import decoders, essnet, query2label, segmenter
from .segmenter import SegmenterHead

logger = logging.getLogger(__name__)

BACKBONE, DECODE, AUXILIARY = "backbone.", "decode_head.", "auxiliary_head."


# The names of multi-label heads in ``names.segmenter``; without one the oracle selects.
MULTILABEL_HEADS = {
    EncoderHead: "encoder",
    DecoderHead: "decoder",
    PoolingHead: "gap",
    type(None): "oracle",
}
# Entries of published decode heads that are transposes of ours, and those that follow from shapes.
TRANSPOSED = {DECODE + name for name in segmenter.TRANSPOSED}
COMPUTED = {DECODE + name for name in segmenter.COMPUTED}


class HeadNames(NamedTuple):
    """Names of a head: our prefix and the published one, and the table of what follows it."""

    ours: str
    published: str
    table: Renaming


class PublishedNames:
    """The published names of a model's parameters."""

    def __init__(self, model: nn.Module) -> None:
        """
        Args:
            model: with a ``backbone`` and a ``decode_head``, and perhaps an ``auxiliary_head``.
        """
        self._backbone = model.backbone
        heads = ((DECODE, model.decode_head), (AUXILIARY, model.auxiliary_head))
        self._heads = [_names_of_head(name, head) for name, head in heads if head is not None]

    def to_ours(self, name: str) -> str:
        """Return our name of a published parameter."""
        for head in self._heads:
            for prefix in (head.published, head.ours):  # checkpoints of ours are read, too
                if name.startswith(prefix):
                    return head.ours + head.table.to_ours(name.removeprefix(prefix))
        return backbones.from_published(self._backbone, name)

    def to_published(self, name: str) -> str:
        """Return the published name of one of our parameters."""
        for head in self._heads:
            if name.startswith(head.ours):
                return head.published + head.table.to_published(name.removeprefix(head.ours))
        return backbones.to_published(self._backbone, name)


def _names_of_head(prefix: str, head: nn.Module) -> HeadNames:
    """Return the names of a head; one without a table has published names."""
    pairs, published = [], prefix
    if isinstance(head, EmbeddingHead):
        pairs, published = essnet.EMBEDDINGS, essnet.PREFIX
    elif isinstance(head, PixelHead) and isinstance(head.decoder, DeepLabV3Plus):
        pairs, published = essnet.SOFTMAX, essnet.PREFIX
    elif isinstance(head, PixelHead):
        pairs = decoders.PAIRS
    elif isinstance(head, SegmenterHead):
        kind = None if head.ranking is None else MULTILABEL_HEADS[type(head.ranking.head)]
        pairs = segmenter.head_pairs(kind, len(head.transformer.blocks))
    return HeadNames(prefix, published, Renaming(pairs))


Convert = Callable[[nn.Module, Mapping[str, Tensor]], dict[str, Tensor]]


def rename_published(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Rename published parameters of a segmenter, in place: a ``load_state_dict`` pre-hook."""
    _rename(convert_published, module, state_dict, prefix)


def rename_query2label(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Rename published parameters of Query2Label, in place: a ``load_state_dict`` pre-hook."""
    _rename(convert_query2label, module, state_dict, prefix)


def _rename(convert: Convert, module: nn.Module, state_dict: dict[str, Any], prefix: str) -> None:
    """Rename published parameters to ours, in place.

    A checkpoint of a pre-trained backbone fills the backbone; all other parameters keep their
    values. Parameters of another shape, such as the classifier of other classes, are left out; the
    caller decides whether a checkpoint may lack them.

    Raises:
        UserError: a checkpoint of a backbone, where the model is loaded for inference.
    """
    names = [key.removeprefix(prefix) for key in state_dict if key.startswith(prefix)]
    tensors = {name: state_dict.pop(prefix + name) for name in names}
    current = module.state_dict()
    pretrained = _pretrained(module, tensors)
    if pretrained is not None:
        if is_for_use(module):
            raise UserError(
                "the checkpoint holds a backbone alone: train from it, and predict with the result"
            )
        logger.warning("the checkpoint holds a backbone: all other weights keep their values")
        others = {n: value for n, value in current.items() if not n.startswith(BACKBONE)}
        renamed = others | pretrained
    else:
        renamed = convert(module, tensors)
    renamed = without_other_shapes(renamed, current)
    state_dict.update({prefix + name: value for name, value in renamed.items()})


def spare_auxiliary(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Ignore a missing or an unneeded auxiliary head, in place: a ``load_state_dict`` pre-hook.

    Inference does without it, so that published files may lack it: the head keeps its values.
    """
    start = prefix + AUXILIARY
    found = [name for name in state_dict if name.startswith(start)]
    if module.auxiliary_head is None:
        for name in found:
            del state_dict[name]
    elif not found:
        if not is_for_use(module):
            logger.warning("the checkpoint has no auxiliary head: that of the model starts anew")
        own = module.auxiliary_head.state_dict()
        state_dict.update({start + name: value for name, value in own.items()})


def _pretrained(module: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    """Return our entries of the backbone from a checkpoint of a backbone alone; else None."""
    with_prefix = [name.startswith(BACKBONE) for name in tensors]
    if any(with_prefix) and not all(with_prefix):
        return None
    found = backbones.load_pretrained(module.backbone, tensors)
    if found is None and (weights := backbone_weights(tensors)) is not None:
        found = {BACKBONE + name: value for name, value in weights.items()}
    return found


def convert_published(module: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the entries of a whole model's checkpoint under our names and with our values.

    Args:
        module: the model.
        tensors: by published names, or by ours; not all need be there.
    """
    names, current = PublishedNames(module), module.state_dict()
    converted = {}
    for name, value in backbones.load_published(module.backbone, tensors).items():
        if name not in COMPUTED:
            ours = name if name.startswith(BACKBONE) else names.to_ours(name)
            value = value.T if name in TRANSPOSED else value
            converted[ours] = _unsqueezed(value, current.get(ours))
    return converted


def convert_query2label(module: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the entries of a Query2Label checkpoint under our names and with our values.

    Args:
        module: has ``backbone`` and ``head``.
        tensors: by published names, or by ours; not all need be there.
    """
    names, current = Renaming(query2label.HEAD), module.state_dict()
    renamed = {
        names.to_ours(_of_backbone(module.backbone, name)): value
        for name, value in tensors.items()
        if name != query2label.COMPUTED
    }
    converted = backbones.load_published(module.backbone, renamed)
    return {name: _unsqueezed(value, current.get(name)) for name, value in converted.items()}


def _of_backbone(backbone: nn.Module, name: str) -> str:
    """Return the name behind ``backbone.`` of a published parameter of Query2Label's backbone."""
    for published in query2label.BACKBONE:
        if name.startswith(published):
            name = BACKBONE + name.removeprefix(published)
            break
    if isinstance(backbone, SwinTransformer):  # it ends with the norm of its classifier
        name = name.replace("backbone.norm.", f"backbone.norm{len(backbone.layers) - 1}.")
    return name


def _unsqueezed(value: Tensor, like: Tensor | None) -> Tensor:
    """Reshape a value that differs in axes of size 1: a 1x1 convolution is a linear layer."""
    if like is None or value.squeeze().shape != like.squeeze().shape:
        return value
    return value.reshape(like.shape)
