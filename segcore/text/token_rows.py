"""Smaller checkpoints: a token embedding table with the trained rows only.

CLIP's table has a row for each of 49,408 tokens. A model that was trained from scratch on a few
hundred words has random values in nearly all of them, which would be most of its file.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from segcore.errors import UserError
from segcore.text.tokens import tokenize

CLIP_TOKENS = 49_408
# Ends of the names of the table, and of what replaces it.
TABLE = "token_embedding.weight"
ROWS, IDS = "token_rows.weight", "token_rows.ids"


def keep_token_rows(state_dict: dict[str, Tensor], prompts: Sequence[str]) -> dict[str, Tensor]:
    """Replace the table (tokens, width) by the rows of the tokens of ``prompts``.

    A table of another tokenizer than CLIP's stays as it is.

    Returns:
        The other entries, with the rows (R, width) and their ids (R,) int32.

    Raises:
        UserError: there is no table.
    """
    tables = [name for name in state_dict if name.endswith(TABLE)]
    if len(tables) != 1:
        raise UserError(
            f"there is no {TABLE} in it: it has no text encoder, or was made smaller before"
        )
    start = tables[0].removesuffix(TABLE)
    if len(state_dict[tables[0]]) != CLIP_TOKENS:
        return dict(state_dict)
    ids = tokenize(prompts).unique()
    kept = {name: value for name, value in state_dict.items() if name != tables[0]}
    return kept | {start + ROWS: state_dict[tables[0]][ids], start + IDS: ids.int()}


def restore_token_rows(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Restore the table from its rows, in place: a ``load_state_dict`` pre-hook of the model.

    Missing rows become zero, so that untrained tokens have no effect.

    Raises:
        UserError: the rows do not match their ids, or the table of the model.
    """
    tables = [name for name, _ in module.named_parameters() if name.endswith(TABLE)]
    for name in tables:
        start = prefix + name.removesuffix(TABLE)
        if start + ROWS not in state_dict:
            continue
        rows, ids = state_dict.pop(start + ROWS), state_dict.pop(start + IDS, None)
        shape = module.get_parameter(name).shape
        if ids is None or rows.shape != (len(ids), shape[1]) or not _within(ids, shape[0]):
            raise UserError(
                f"the checkpoint's token rows {tuple(rows.shape)} do not fit their ids or the "
                f"table {tuple(shape)} of this model's text encoder: use the config that it was "
                "trained with"
            )
        table = rows.new_zeros(shape)
        table[ids.long()] = rows
        state_dict[prefix + name] = table


def _within(ids: Tensor, number: int) -> bool:
    return (
        ids.ndim == 1
        and not ids.is_floating_point()
        and bool(torch.all((ids >= 0) & (ids < number)))
    )
