"""The exponential moving average (EMA) of a model's weights over the training steps."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from detectron2.engine import HookBase
from torch import Tensor, nn


class WeightAverage(HookBase):
    """Keeps the average of all parameters and buffers; checkpoints contain it.

    It starts as a copy of the weights, and after every step becomes ``decay`` times itself plus
    ``1 - decay`` times the weights. Whole numbers, such as counters, are copied.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        """
        Args:
            model: without the wrapper of distributed training.
            decay: 0 ... 1.
        """
        self.model, self.decay = model, decay
        self.average: dict[str, Tensor] = {}

    def before_train(self) -> None:
        if not self.average:  # no checkpoint had one
            self.average = {name: value.clone() for name, value in self._weights().items()}

    def after_step(self) -> None:
        self.update()

    @torch.no_grad()
    def update(self) -> None:
        """Let the average follow the weights by one step."""
        for name, value in self._weights().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - self.decay)
            else:
                self.average[name].copy_(value)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Give the model the averaged weights within the block."""
        kept = {name: value.clone() for name, value in self._weights().items()}
        self._set(self.average)
        try:
            yield
        finally:
            self._set(kept)

    def state_dict(self) -> dict[str, Any]:
        return self.average

    def load_state_dict(self, state: dict[str, Any]) -> None:
        weights = self._weights()
        self.average = {name: value.clone() for name, value in weights.items()}
        for name, value in state.items():
            if name in weights and weights[name].shape == value.shape:
                self.average[name].copy_(value)

    @torch.no_grad()
    def _set(self, values: dict[str, Tensor]) -> None:
        for name, value in self._weights().items():
            value.copy_(values[name])

    def _weights(self) -> dict[str, Tensor]:
        """Return the parameters and buffers, without copies of them."""
        return {n: v for n, v in self.model.state_dict().items() if isinstance(v, Tensor)}
