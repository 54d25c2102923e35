"""Measure the time of a model's parts, forward and backward."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves


@dataclass(frozen=True)
class Split:
    """Seconds of consecutive parts, and of the rest.

    Attributes:
        parts: of each part, in order.
        rest: of everything else, which comes last in these models.
    """

    parts: tuple[float, ...]
    rest: float


class Parts:
    """Time the parts of a model: modules that are called once each, one after the other."""

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        """
        Args:
            modules: the parts by name, in the order of their calls.
        """
        self._names = list(modules)
        self._entered: dict[str, float] = {}
        self._left: dict[str, float] = {}
        self._reached: dict[str, float] = {}
        for name, module in modules.items():
            module.register_forward_pre_hook(partial(self._enter, name))
            module.register_forward_hook(partial(self._leave, name))

    def forward(self, function: Callable[[], Any]) -> tuple[Any, Split]:
        """Call a function that calls the parts; return its result and the times."""
        self._reached.clear()
        start = now()
        result = function()
        total = now() - start
        parts = tuple(self._left[name] - self._entered[name] for name in self._names)
        return result, Split(parts, total - sum(parts))

    def backward(self, loss: Tensor) -> Split:
        """Compute the gradients of the result of ``forward``, and return the times.

        Autograd goes through later operations first. When it reaches the outputs of a part, all
        operations after that part are done.
        """
        start = now()
        loss.backward()
        ends = [now(), *(self._reached[name] for name in self._names)]
        parts = tuple(later - earlier for later, earlier in pairwise(ends))
        return Split(parts, ends[-1] - start)

    def _enter(self, name: str, *_: Any) -> None:
        self._entered[name] = now()

    def _leave(self, name: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
        self._left[name] = now()
        for leaf in tree_leaves(output):
            if isinstance(leaf, Tensor) and leaf.requires_grad:
                leaf.register_hook(partial(self._reach, name))

    def _reach(self, name: str, _gradient: Tensor) -> None:
        if name not in self._reached:
            self._reached[name] = now()


def now() -> float:
    """Return the time in seconds, after waiting for the work of a GPU."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
