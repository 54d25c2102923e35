"""Hard decisions of a forward pass: recorded in one run, taken over and compared in another.

Rounding moves a smooth function a little and a step by its whole height: a unit that is on or off,
the pixel that a sampling point falls into, whether a query attends to a position, the order of the
classes. Two runs that decide alike differ by rounding alone, whatever machine they ran on; and
where they decide differently, both values must lie within rounding of the border.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class Decisions(TorchFunctionMode):
    """Records the decisions of a run; or takes those of ``of`` and compares its own with them.

    Attributes:
        made: the decisions in their order: signs, whole numbers, or indices.
        margins: for each tensor where the own decisions are others, how far from the border the
            farthest of these values lies, as a share of the tensor's largest.
    """

    def __init__(self, of: "Decisions | None" = None) -> None:
        super().__init__()
        self.made: list[Tensor] = []
        self.margins: list[float] = []
        self._taken = iter(of.made) if of is not None else None

    def __torch_function__(self, func: Callable, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in (F.relu, torch.relu, Tensor.relu):
            x = args[0]
            return x * self._settle(x.detach() > 0, x, x)
        if func is Tensor.floor:
            x = args[0]
            return self._settle(func(x), x, x - x.round()).to(x.dtype)
        if func in (Tensor.__ge__, Tensor.ge) and args[0].is_floating_point() and args[1] == 0:
            return self._settle(func(*args), args[0], args[0])
        if func is Tensor.argsort:
            return self._order(func(*args, **kwargs), args[0], kwargs["dim"])
        return func(*args, **kwargs)

    def _settle(self, own: Tensor, values: Tensor, beyond: Tensor) -> Tensor:
        """own: the decisions on ``values``, which lie ``beyond`` the border by so much."""
        decision = own if self._taken is None else next(self._taken).to(own.dtype)
        self.made.append(decision)
        self._compare(decision != own, beyond, values)
        return decision

    def _order(self, own: Tensor, values: Tensor, dim: int) -> Tensor:
        decision = own if self._taken is None else next(self._taken)
        self.made.append(decision)
        gap = values.gather(dim, decision) - values.gather(dim, own)
        self._compare(decision != own, gap, values)
        return decision

    def _compare(self, differs: Tensor, beyond: Tensor, values: Tensor) -> None:
        if differs.any():
            largest = values.detach().abs().max()
            self.margins.append((beyond.detach()[differs].abs().max() / largest).item())
