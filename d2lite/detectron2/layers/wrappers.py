"""Thin additions to torch."""

from typing import Any

import torch
from torch import nn


def cat(tensors: list[torch.Tensor], dim: int = 0) -> torch.Tensor:
    """Concatenate; a single tensor is returned as it is, without a copy."""
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors, dim)


class Conv2d(nn.Conv2d):
    """A convolution, then a normalisation, then an activation.

    Args:
        norm: module or None.
        activation: function or None. All others are those of ``torch.nn.Conv2d``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        norm, activation = kwargs.pop("norm", None), kwargs.pop("activation", None)
        super().__init__(*args, **kwargs)
        self.norm, self.activation = norm, activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, C', H', W')."""
        x = self._conv_forward(x, self.weight, self.bias)
        if self.norm is not None:
            x = self.norm(x)
        if self.activation is not None:
            x = self.activation(x)
        return x
