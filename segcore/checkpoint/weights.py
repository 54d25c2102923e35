"""Weights that a model is used with: their names, whether they fit, whether they are numbers.

:func:`guard` makes a model refuse to predict by chance, whoever loads it: our own checkpointer,
Detectron2's ``DefaultPredictor``, or a script with ``load_state_dict``.
"""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from operator import itemgetter
from typing import Any, TypeVar

from torch import Tensor, nn

from segcore.errors import UserError, printable

Value = TypeVar("Value")

COMPILED = re.compile(r"(?:(?<=\.)|^)(?:_orig_mod\.)+")
WRAPPED = "module."
UNTRAINED = "CATRANK_UNTRAINED"  # environment: set, models predict without weights, for tests
REMEDY = "take the config that it was trained with"

# Set while a caller who can name the file loads: whether the model is to predict with the weights.
_purpose: ContextVar[bool | None] = ContextVar("purpose", default=None)


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


def not_finite(state_dict: Mapping[str, Tensor]) -> str | None:
    """Return the name of an entry with a value that is infinite or no number, if there is one."""
    for name, value in state_dict.items():
        if (value.is_floating_point() or value.is_complex()) and not value.isfinite().all():
            return name
    return None


def misfit(
    missing: Sequence[str], unexpected: Sequence[str], shapes: Sequence[tuple[str, Any, Any]] = ()
) -> str:
    """Say how a checkpoint does not fit a model; "" where it does.

    Args:
        missing, unexpected: names of entries.
        shapes: name, shape in the checkpoint and shape in the model of what has another one.
    """
    wrong = {name for name, _, _ in shapes}
    told = [f"{name} {tuple(theirs)} (the model's is {tuple(o)})" for name, theirs, o in shapes]
    faults = [
        _some("has another shape for", told),
        _some("lacks", [name for name in missing if name not in wrong]),
        _some("has unknown", list(unexpected)),
    ]
    return "; it ".join(filter(None, faults))


def guard(model: nn.Module) -> None:
    """Let a model of ours refuse what can only predict by chance.

    Out of training mode, where models are loaded to be used, ``load_state_dict`` raises a
    :class:`UserError` for weights that are lacking, unknown or not finite; and ``forward`` does
    before weights are loaded or learned. Measurements of untrained models set
    ``model.may_predict``.
    """
    model.may_predict = bool(os.environ.get(UNTRAINED))
    model.register_load_state_dict_pre_hook(_unwrap)
    model.register_load_state_dict_post_hook(_check_loaded)
    model.register_forward_pre_hook(_check_trained)


@contextmanager
def loading(for_use: bool) -> Iterator[None]:
    """Meanwhile ``load_state_dict`` leaves the checks to the caller, who can name the file."""
    token = _purpose.set(for_use)
    try:
        yield
    finally:
        _purpose.reset(token)


def is_for_use(model: nn.Module) -> bool:
    """Whether the weights that are being loaded are to predict with, not to start training from."""
    purpose = _purpose.get()
    return not model.training if purpose is None else purpose


def _unwrap(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """A ``load_state_dict`` pre-hook of a whole model: wrappers as the model has them, in place."""
    if prefix:
        return
    own = {COMPILED.sub("", name): name for name in module.state_dict()}
    plain = without_wrappers(state_dict)
    state_dict.clear()
    state_dict.update({own.get(name, name): value for name, value in plain.items()})


def _check_loaded(module: nn.Module, incompatible: Any) -> None:
    if _purpose.get() is None and is_for_use(module):
        if fault := misfit(incompatible.missing_keys, incompatible.unexpected_keys):
            raise UserError(
                f"the checkpoint does not fit the model of this config: it {fault}; {REMEDY}"
            )
        if name := not_finite(module.state_dict()):
            raise UserError(f"the checkpoint holds values of {name} that are not finite numbers")
    module.may_predict = True


def _check_trained(module: nn.Module, _: Any) -> None:
    if module.training:
        module.may_predict = True
    elif not module.may_predict:
        raise UserError(
            "the model has no weights, and would predict by chance: name a checkpoint in "
            "MODEL.WEIGHTS, or load one before"
        )


def _some(what: str, names: Sequence[str]) -> str:
    if not names:
        return ""
    shown = ", ".join(printable(name) for name in names[:3])
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{what} {shown}{more} ({len(names)} in all)"
