"""Weights that a model is used with: their names, whether they fit, whether they are numbers."""

import re
from collections import Counter
from collections.abc import Mapping
from operator import itemgetter
from typing import TypeVar

from segcore.errors import UserError, printable

Value = TypeVar("Value")

COMPILED = re.compile(r"(?:(?<=\.)|^)(?:_orig_mod\.)+")
WRAPPED = "module."


def without_wrappers(state_dict: Mapping[str, Value]) -> dict[str, Value]:
    """Return the entries under the names that the model has without its wrappers.

    ``torch.compile`` puts ``_orig_mod.`` before the names of what it compiled, and a model for
    several GPUs puts ``module.`` before all names; both may be there several times.

    Raises:
        UserError: two entries are of the same name then.
    """
    names = {name: COMPILED.sub("", name) for name in state_dict}
    while names and all(name.startswith(WRAPPED) for name in names.values()):
        names = {old: COMPILED.sub("", name.removeprefix(WRAPPED)) for old, name in names.items()}
    name, count = max(Counter(names.values()).items(), key=itemgetter(1), default=("", 0))
    if count > 1:
        raise UserError(f"the checkpoint holds {printable(name)} twice, with and without wrappers")
    return {name: state_dict[old] for old, name in names.items()}
