"""Hard decisions of a forward pass: recorded in one run, replayed and compared in another.

Rounding errors change a smooth function a little, but can flip a discrete decision: whether a ReLU
is active, the pixel that a sampling point falls into, whether a query attends to a position, the
order of the classes. Two runs with the same decisions differ by rounding errors only, on any
machine; where they decide differently, both values must be within rounding of the threshold.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class Decisions(TorchFunctionMode):
    """Records the decisions of a run; or replays those of ``of`` and compares this run's with them.

    Attributes:
        made: the decisions in order: signs, integers, or indices.
        margins: for each tensor with different decisions, the largest distance of these values from
            the threshold, relative to the tensor's largest value.
    """

    def __init__(self, of: "Decisions | None" = None) -> None:
        super().__init__()
        self.made: list[Tensor] = []
        self.margins: list[float] = []
        self._replayed = iter(of.made) if of is not None else None

    def __torch_function__(self, func: Callable, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in (F.relu, torch.relu, Tensor.relu):
            x = args[0]
            return x * self._decide(x.detach() > 0, x, x)
        if func is Tensor.floor:
            x = args[0]
            return self._decide(func(x), x, x - x.round()).to(x.dtype)
        if func in (Tensor.__ge__, Tensor.ge) and args[0].is_floating_point() and args[1] == 0:
            return self._decide(func(*args), args[0], args[0])
        if func is Tensor.argsort:
            return self._order(func(*args, **kwargs), args[0], kwargs["dim"])
        return func(*args, **kwargs)

    def _decide(self, computed: Tensor, values: Tensor, distance: Tensor) -> Tensor:
        """Return the replayed or computed decision on values ``distance`` from the threshold."""
        decision = computed if self._replayed is None else next(self._replayed).to(computed.dtype)
        self.made.append(decision)
        self._compare(decision != computed, distance, values)
        return decision

    def _order(self, computed: Tensor, values: Tensor, dim: int) -> Tensor:
        decision = computed if self._replayed is None else next(self._replayed)
        self.made.append(decision)
        gap = values.gather(dim, decision) - values.gather(dim, computed)
        self._compare(decision != computed, gap, values)
        return decision

    def _compare(self, differs: Tensor, distance: Tensor, values: Tensor) -> None:
        if differs.any():
            largest = values.detach().abs().max()
            self.margins.append((distance.detach()[differs].abs().max() / largest).item())
