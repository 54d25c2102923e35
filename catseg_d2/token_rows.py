"""A token table without the rows of words that a model never learned.

CLIP's table has a row for each of 49,408 tokens. Of a model that was trained from scratch on a few
hundred words nearly all rows are still noise; they would be most of its file.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from segcore.errors import UserError

from .text import tokenize

TABLE = "clip.token_embedding.weight"
ROWS, IDS = "clip.token_rows.weight", "clip.token_rows.ids"


def keep_token_rows(state_dict: dict[str, Tensor], sentences: Sequence[str]) -> dict[str, Tensor]:
    """Replace the table (tokens, width) by the rows that ``sentences`` use.

    Returns:
        the other entries as they are, with the rows (R, width) and their ids (R,) int32.

    Raises:
        UserError: there is no table.
    """
    if TABLE not in state_dict:
        raise UserError(f"there is no {TABLE} in it: it is no CAT-Seg, or was made smaller before")
    ids = tokenize(sentences).unique()
    kept = {name: value for name, value in state_dict.items() if name != TABLE}
    return kept | {ROWS: state_dict[TABLE][ids], IDS: ids.int()}


def restore_token_rows(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """A ``load_state_dict`` pre-hook of the whole model: rows become a table again, in place.

    The rows that are missing become zero: a word that the model never learned then stands for
    nothing, where noise would stand for anything.

    Raises:
        UserError: the rows do not fit their ids, or the table of the model.
    """
    if prefix + ROWS not in state_dict:
        return
    rows, ids = state_dict.pop(prefix + ROWS), state_dict.pop(prefix + IDS, None)
    shape = module.clip.token_embedding.weight.shape
    if ids is None or rows.shape != (len(ids), shape[1]) or not _within(ids, shape[0]):
        raise UserError(
            f"the checkpoint's token rows {tuple(rows.shape)} do not fit their ids or the table "
            f"{tuple(shape)} of this model's text tower: take the config that it was trained with"
        )
    table = rows.new_zeros(shape)
    table[ids.long()] = rows
    state_dict[prefix + TABLE] = table


def _within(ids: Tensor, number: int) -> bool:
    return (
        ids.ndim == 1
        and not ids.is_floating_point()
        and bool(torch.all((ids >= 0) & (ids < number)))
    )
