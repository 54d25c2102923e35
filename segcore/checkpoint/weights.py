"""Check the weights that a model is loaded with: their names, shapes and finite values.

:func:`guard` makes a model refuse to predict with random weights, whatever loads it: our
checkpointer, Detectron2's ``DefaultPredictor``, or a script with ``load_state_dict``.
"""

import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from operator import itemgetter
from typing import Any, TypeVar

from torch import Tensor, nn

from segcore.errors import UserError, printable

logger = logging.getLogger(__name__)

Value = TypeVar("Value")

COMPILED = re.compile(r"(?:(?<=\.)|^)(?:_orig_mod\.)+")
WRAPPED = "module."
REMEDY = "take the config that it was trained with"

# Set while a caller loads that can name the file: whether the model is loaded for inference.
_purpose: ContextVar[bool | None] = ContextVar("purpose", default=None)


def without_wrappers(state_dict: Mapping[str, Value]) -> dict[str, Value]:
    """Return a state dict without the name prefixes of wrappers.

    ``torch.compile`` adds the prefix ``_orig_mod.`` to the names of compiled modules, and
    ``DataParallel`` adds ``module.`` to all names; both may occur several times.

    Raises:
        UserError: two entries have the same name without the prefixes.
    """
    names = {name: COMPILED.sub("", name) for name in state_dict}
    while names and all(name.startswith(WRAPPED) for name in names.values()):
        names = {old: COMPILED.sub("", name.removeprefix(WRAPPED)) for old, name in names.items()}
    name, count = max(Counter(names.values()).items(), key=itemgetter(1), default=("", 0))
    if count > 1:
        raise UserError(f"the checkpoint holds {printable(name)} twice, with and without wrappers")
    return {name: state_dict[old] for old, name in names.items()}


def non_finite_entry(state_dict: Mapping[str, Tensor]) -> str | None:
    """Return the name of an entry with an infinite or NaN value, None if there is none."""
    for name, value in state_dict.items():
        if (value.is_floating_point() or value.is_complex()) and not value.isfinite().all():
            return name
    return None


def key_mismatch(
    missing: Sequence[str], unexpected: Sequence[str], shapes: Sequence[tuple[str, Any, Any]] = ()
) -> str:
    """Describe how a checkpoint does not fit a model; "" if it fits.

    Args:
        missing, unexpected: names of entries.
        shapes: (name, shape in the checkpoint, shape in the model) of entries whose shapes differ.
    """
    wrong = {name for name, _, _ in shapes}
    differing = [f"{name} {tuple(c)} (the model's is {tuple(m)})" for name, c, m in shapes]
    problems = [
        _some("has another shape for", differing),
        _some("lacks", [name for name in missing if name not in wrong]),
        _some("has unknown", list(unexpected)),
    ]
    return "; it ".join(filter(None, problems))


def without_other_shapes(
    tensors: Mapping[str, Tensor], model: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the entries of a checkpoint without those of another shape, with a warning.

    Args:
        tensors: the entries, under the names of the model.
        model: its parameters and buffers.
    """
    wrong = {n for n, v in tensors.items() if n in model and model[n].shape != v.shape}
    if wrong:
        listed = ", ".join(
            f"{printable(name)} {tuple(tensors[name].shape)} "
            f"(the model's is {tuple(model[name].shape)})"
            for name in tensors
            if name in wrong
        )
        logger.warning("parameters of another shape are not loaded: %s", listed)
    return {name: value for name, value in tensors.items() if name not in wrong}


def resample_other_shapes(model: nn.Module, tensors: MutableMapping[str, Tensor]) -> None:
    """Resample the entries of another shape that their modules can fit, in place.

    A module with a method ``fit_parameter(name, value) -> value`` can: one with learned positions
    of a grid of patches, whose number depends on the size of the images.

    Args:
        model: the module that the entries are of.
        tensors: a state dict, under the names of the model; not all entries need be there.

    Raises:
        UserError: an entry cannot be resampled.
    """
    for name, parameter in model.named_parameters():
        value = tensors.get(name)
        if value is None or value.shape == parameter.shape or value.ndim != parameter.ndim:
            continue
        owner, _, own_name = name.rpartition(".")
        if fit := getattr(model.get_submodule(owner), "fit_parameter", None):
            tensors[name] = fit(own_name, value)


def guard(model: nn.Module) -> None:
    """Make a model refuse to predict with random weights.

    In evaluation mode, ``load_state_dict`` raises a :class:`UserError` for weights that are
    missing, unknown or not finite, and ``forward`` raises one before weights are loaded or trained.
    Benchmarks of untrained models set ``model.may_predict``.
    """
    model.may_predict = False
    model.register_load_state_dict_pre_hook(_unwrap)
    model.register_load_state_dict_post_hook(_check_loaded)
    model.register_forward_pre_hook(_check_trained)


@contextmanager
def loading(for_use: bool) -> Iterator[None]:
    """Let ``load_state_dict`` leave the checks to the caller, which can name the file."""
    token = _purpose.set(for_use)
    try:
        yield
    finally:
        _purpose.reset(token)


def is_for_use(model: nn.Module) -> bool:
    """Return whether weights are being loaded for inference, not to start training from."""
    purpose = _purpose.get()
    return not model.training if purpose is None else purpose


def _unwrap(module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    """Adapt wrapper prefixes to those of the model, in place: a ``load_state_dict`` pre-hook."""
    if prefix:
        return
    model_names = {COMPILED.sub("", name): name for name in module.state_dict()}
    plain = without_wrappers(state_dict)
    state_dict.clear()
    state_dict.update({model_names.get(name, name): value for name, value in plain.items()})


def _check_loaded(module: nn.Module, incompatible: Any) -> None:
    if _purpose.get() is None and is_for_use(module):
        if problem := key_mismatch(incompatible.missing_keys, incompatible.unexpected_keys):
            raise UserError(
                f"the checkpoint does not fit the model of this config: it {problem}; {REMEDY}"
            )
        if name := non_finite_entry(module.state_dict()):
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
