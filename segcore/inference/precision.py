"""The numeric precision in which networks predict, ``MODEL.PRECISION``.

The parameters stay in float32: autocast rounds the inputs of matrix products and convolutions. What
follows a network (scores, labels, merging) is computed in float32.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import wraps
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

DTYPES = {"float32": None, "bfloat16": torch.bfloat16}
# Names that torch.cpu.get_capabilities gives to instructions that multiply bfloat16 numbers.
CPU_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Precision:
    """A precision of predictions.

    Attributes:
        name: of ``DTYPES``.
    """

    name: str = "float32"

    def autocast(self, device: torch.device) -> AbstractContextManager:
        """Return the context in which a network predicts; float32 keeps the surrounding one."""
        dtype = DTYPES[self.name]
        return nullcontext() if dtype is None else torch.autocast(device.type, dtype)


FLOAT32 = Precision()


def in_precision(predict: Function) -> Function:
    """Decorate a method of a model with ``precision`` and ``device``, which runs its network.

    The method runs in the precision, and its floating-point results are float32. In training it is
    called as it is: ``SOLVER.AMP.ENABLED`` sets the precision there.
    """

    @wraps(predict)
    def in_its_precision(model: Any, *args: Any, **options: Any) -> Any:
        if model.training or model.precision == FLOAT32:
            return predict(model, *args, **options)
        with model.precision.autocast(model.device):
            result = predict(model, *args, **options)
        return tree_map_only(Tensor, _to_float32, result)

    return in_its_precision  # type: ignore[return-value]


def _to_float32(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value


def at_least_float32(value: Tensor) -> Tensor:
    """Return a tensor of reduced precision as float32, others as they are."""
    return value.to(torch.promote_types(value.dtype, torch.float32))


def has_bfloat16(device: torch.device) -> bool:
    """Return whether a device multiplies bfloat16 numbers in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = getattr(torch.cpu, "get_capabilities", None)
    if capabilities is None:  # an older release of PyTorch, which does not list them
        return True
    known = capabilities()
    return any(known.get(name) for name in CPU_INSTRUCTIONS)
