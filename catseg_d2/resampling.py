"""Bilinear resizing of a part of a map, to the numbers that resizing the whole map gives.

Sampling as everywhere in this project: half-pixel centres, not antialiased.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from segcore.windows import Window


def resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, half-pixel centres, not antialiased: (B, C, h, w) -> (B, C, *size)."""
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)


class WindowResize:
    """Makes a window of a resized map, from the part of the map that the window depends on."""

    def __init__(self, source: tuple[int, int], target: tuple[int, int], window: Window) -> None:
        """
        Args:
            source: size of the whole map.
            target: size to which it would be resized.
            window: the part of the result that is wanted.
        """
        self._rows = _Axis(source[0], target[0], window.top, window.bottom)
        self._columns = _Axis(source[1], target[1], window.left, window.right)
        self.needs = Window(*self._rows.needs, *self._columns.needs)

    def __call__(self, part: Tensor) -> Tensor:
        """The window ``needs`` of maps (C, H, W), of any number type -> (C, h, w) float."""
        return self._rows.apply(self._columns.apply(part, dim=2), dim=1)


class _Axis:
    """Points first ... last - 1 of ``target``, each between two of ``source``."""

    def __init__(self, source: int, target: int, first: int, last: int) -> None:
        self.needs = (first, last)
        self.same = source == target
        if not self.same:
            place = (torch.arange(first, last) + 0.5) * (source / target) - 0.5
            place = place.clamp(0, source - 1)
            low = place.long()
            high = (low + 1).clamp(max=source - 1)
            self.needs = (int(low[0]), int(high[-1]) + 1)
            self.weight = place - low
            self.low, self.high = low - low[0], high - low[0]

    def apply(self, maps: Tensor, dim: int) -> Tensor:
        if self.same:
            return maps.float()
        low, high, weight = (x.to(maps.device) for x in (self.low, self.high, self.weight))
        weight = weight if dim == 2 else weight[:, None]
        # Few of a large picture's bytes are read, and only those become floats.
        low, high = (maps.index_select(dim, x).float() for x in (low, high))
        return low.lerp_(high, weight)
