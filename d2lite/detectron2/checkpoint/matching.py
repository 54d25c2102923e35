"""Matching the names of a third-party checkpoint with those of a model."""

import logging
from collections import defaultdict
from typing import Any

import torch


def match_by_suffix(
    model_state: dict[str, torch.Tensor], checkpoint_state: dict[str, Any]
) -> dict[str, Any]:
    """Rename checkpoint entries to the model's names.

    An entry matches every model name that equals its name or ends with a dot and its name; a model
    name takes the longest match, if the shapes agree. Entries without a match keep their names.

    Raises:
        ValueError: two model names match the same entry.
    """
    logger = logging.getLogger("detectron2.checkpoint.c2_model_loading")
    taken: dict[str, str] = {}
    takers: dict[str, list[str]] = defaultdict(list)
    for name in sorted(model_state):
        entry = _longest_suffix(name, checkpoint_state)
        if entry is None:
            continue
        shapes = tuple(checkpoint_state[entry].shape), tuple(model_state[name].shape)
        if shapes[0] != shapes[1]:
            logger.warning(
                "Shape of %s is %s in the file, but %s is %s", entry, shapes[0], name, shapes[1]
            )
            continue
        takers[entry].append(name)
        taken[entry] = name
    for entry, names in takers.items():
        if len(names) > 1:
            raise ValueError(f"{entry} of the checkpoint fits several names: {', '.join(names)}")
    if not taken:
        logger.warning("No name of the checkpoint fits the model")
        return checkpoint_state
    return {taken.get(entry, entry): value for entry, value in checkpoint_state.items()}


def _longest_suffix(name: str, entries: dict[str, Any]) -> str | None:
    """Return the first of ``a.b.c``, ``b.c``, ``c`` that is an entry; None if there is none."""
    while name not in entries:
        _, dot, name = name.partition(".")
        if not dot:
            return None
    return name
