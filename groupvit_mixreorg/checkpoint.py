"""Load the published checkpoints of GroupViT: those of its release, and transformers' form."""

import logging
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from segcore.checkpoint.renaming import Renaming
from segcore.checkpoint.weights import is_for_use

from .names import groupvit, transformers

logger = logging.getLogger(__name__)

MODEL, MIXREORG = "model.", "mixreorg."
MULTI_LABEL_SCALE = "model.multi_label_logit_scale"
_NAMES = Renaming(groupvit.PAIRS)
_NAMES_OF_TRANSFORMERS = Renaming(transformers.PAIRS)
# Part of the matrix of query, key and value in transformers' checkpoints.
_PART = re.compile(r"(.+self_attn\.)([qkv])(_proj\..+)")


def from_published(name: str) -> str:
    """Return our name of a parameter of the release, or of transformers."""
    table = _NAMES_OF_TRANSFORMERS if _is_of_transformers(name) else _NAMES
    return MODEL + table.to_ours(name)


def to_published(name: str) -> str:
    """Return the name in the release of one of our parameters."""
    return _NAMES.to_published(name.removeprefix(MODEL))


def _is_of_transformers(name: str) -> bool:
    return name.startswith(
        ("vision_model.", "text_model.", "visual_projection.", "text_projection.")
    )


def convert_published(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the entries of a published checkpoint under our names.

    Args:
        tensors: by the names of the release or of transformers.
    """
    joined, parts = {}, {}
    for name, value in tensors.items():
        if match := _PART.fullmatch(name):
            start, letter, end = match.groups()
            parts.setdefault(f"{start}qkv{end}", {})[letter] = value
        elif name not in transformers.IGNORED:
            joined[name] = value
    for name, values in parts.items():
        joined[name] = torch.cat([values[letter] for letter in "qkv" if letter in values])
    return {from_published(name): value for name, value in joined.items()}


def rename_published(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Rename published parameters to ours, in place: a ``load_state_dict`` pre-hook of the model.

    The 1x1 convolutions of the release's projections are linear layers here.
    """
    names = [key.removeprefix(prefix) for key in state_dict if key.startswith(prefix)]
    if not any(name.startswith((groupvit.MARK, transformers.MARK)) for name in names):
        return
    tensors = {name: state_dict.pop(prefix + name) for name in names}
    current = module.state_dict()
    for name, value in convert_published(tensors).items():
        own = current.get(name)
        if own is not None and value.shape != own.shape and value.shape == (*own.shape, 1):
            value = value[..., 0]
        state_dict[prefix + name] = value


def spare_training_parts(
    module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any
) -> None:
    """Ignore missing and unneeded parameters that training alone reads, in place: a pre-hook.

    They are MixReorg's modules, and the scale of the multi-label loss: a model of either kind loads
    a checkpoint of the other. Those that a checkpoint lacks keep their values.
    """

    def is_spared(name: str) -> bool:
        return name.startswith(MIXREORG) or name == MULTI_LABEL_SCALE

    current = {name: value for name, value in module.state_dict().items() if is_spared(name)}
    found = {
        name: key
        for key in state_dict
        if key.startswith(prefix) and is_spared(name := key.removeprefix(prefix))
    }
    for name in found.keys() - current.keys():
        del state_dict[found[name]]
    missing = current.keys() - found.keys()
    if missing and not is_for_use(module):
        logger.warning("the checkpoint lacks %d parameters, which start anew", len(missing))
    state_dict.update({prefix + name: current[name] for name in missing})
