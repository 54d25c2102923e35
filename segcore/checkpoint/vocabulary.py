"""The vocabulary of a model is part of its state dict: every checkpoint keeps it.

PyTorch attaches ``_metadata`` to a state dict: a dict for every module, with its version. That of
the whole model holds the vocabulary too, as JSON, so that ``torch.save``, Detectron2's checkpointer
and ours keep it without knowing of it. A ``.safetensors`` file holds the same text in its header.
"""

import json
import logging
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from segcore.checkpoint.weights import is_for_use
from segcore.errors import UserError
from segcore.vocabulary import Vocabulary
from segcore.vocabulary.files import MAX_FILE_BYTES, parse_json

KEY = "vocabulary"
logger = logging.getLogger(__name__)


def carry_vocabulary(model: nn.Module) -> None:
    """Let the state dict of a model carry ``model.vocabulary``, and weights to predict with bring
    theirs by ``model.take_vocabulary(vocabulary)``."""
    model.register_state_dict_post_hook(_write)
    model.register_load_state_dict_pre_hook(_read)


def vocabulary_text(state_dict: Mapping[str, Tensor]) -> str | None:
    """Return the vocabulary, as JSON, that a state dict carries, if there is one."""
    # Not always that of the whole: it may be a wrapper, such as that of a model on several GPUs.
    entries = getattr(state_dict, "_metadata", {}).values()
    texts = (entry.get(KEY) for entry in entries)
    return next((text for text in texts if isinstance(text, str)), None)


def with_vocabulary(state_dict: Mapping[str, Tensor], text: str | None) -> OrderedDict[str, Tensor]:
    """Return a state dict with the same tensors that carries a vocabulary, as JSON."""
    carrying = OrderedDict(state_dict)
    if text is not None:
        carrying._metadata = OrderedDict({"": {KEY: text}})
    return carrying


def vocabulary_to_text(vocabulary: Vocabulary) -> str:
    """Return a vocabulary as JSON on one line."""
    return json.dumps(vocabulary.to_table(), ensure_ascii=False, separators=(",", ":"))


def vocabulary_from_text(text: str) -> Vocabulary:
    """Return the vocabulary that JSON describes.

    Raises:
        UserError: it describes none, or has more than 16 MiB.
    """
    if len(text) > MAX_FILE_BYTES:
        raise UserError(f"the vocabulary has more than {MAX_FILE_BYTES >> 20} MiB")
    table = parse_json(text, "the vocabulary")
    if not isinstance(table, dict):
        raise UserError("the vocabulary is no JSON object")
    return Vocabulary.from_table(table, "the vocabulary")


def _write(module: nn.Module, _: Any, __: str, entry: dict[str, Any]) -> None:
    if module.vocabulary is not None:
        entry[KEY] = vocabulary_to_text(module.vocabulary)


def _read(module: nn.Module, _: Any, __: str, entry: Mapping[str, Any], *___: Any) -> None:
    text = entry.get(KEY)
    if not isinstance(text, str) or not is_for_use(module):
        return
    try:
        module.take_vocabulary(vocabulary_from_text(text))
    except UserError as error:  # the weights are usable without
        logger.warning("The class names of the checkpoint are left out: %s", error)
