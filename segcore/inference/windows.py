"""Windows of maps, and of resized maps."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor


@dataclass(frozen=True)
class Window:
    """The rows [top, bottom) and columns [left, right) of a map."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.bottom - self.top, self.right - self.left

    def of(self, maps: Tensor) -> Tensor:
        """Return a view of the window: maps (..., H, W) -> (..., height, width)."""
        return maps[..., self.top : self.bottom, self.left : self.right]

    def within(self, frame: "Window") -> "Window | None":
        """Return the intersection with ``frame``, None if it is empty."""
        top, bottom = max(self.top, frame.top), min(self.bottom, frame.bottom)
        left, right = max(self.left, frame.left), min(self.right, frame.right)
        return Window(top, bottom, left, right) if top < bottom and left < right else None

    def seen_from(self, frame: "Window") -> "Window":
        """Return the window in coordinates relative to the upper left corner of ``frame``."""
        return Window(
            self.top - frame.top,
            self.bottom - frame.top,
            self.left - frame.left,
            self.right - frame.left,
        )

    def flipped(self, width: int) -> "Window":
        """Return the window's position in a horizontally flipped map of that width."""
        return Window(self.top, self.bottom, width - self.right, width - self.left)


class WindowResize:
    """Compute a window of a resized map from the part of the map that it depends on.

    Bilinear, not antialiased: equal to resizing the whole map.
    """

    def __init__(
        self,
        source: tuple[int, int],
        target: tuple[int, int],
        window: Window,
        align_corners: bool = False,
    ) -> None:
        """
        Args:
            source: size of the whole map.
            target: size of the resized map.
            window: the wanted part of the resized map.
            align_corners: the centres of the corner points coincide, not the maps' outer edges.
        """
        self._rows = _axis(source[0], target[0], window.top, window.bottom, align_corners)
        self._columns = _axis(source[1], target[1], window.left, window.right, align_corners)
        self.needs = Window(*self._rows.needs, *self._columns.needs)

    def __call__(self, part: Tensor) -> Tensor:
        """Map the window ``needs`` of maps (C, H, W), of any dtype, to (C, h, w) float."""
        return self._rows.apply(self._columns.apply(part, dim=2), dim=1)


class _Axis:
    """Points first ... last - 1 of ``target``, each between two of ``source``."""

    # Not inference tensors, whose later use with gradients would be an error.
    @torch.inference_mode(False)
    def __init__(
        self, source: int, target: int, first: int, last: int, align_corners: bool
    ) -> None:
        self.needs = (first, last)
        self._copies: dict[torch.device, tuple[Tensor, Tensor, Tensor]] = {}
        self.same = source == target
        if not self.same:
            points = torch.arange(first, last)
            if align_corners:
                position = points * ((source - 1) / max(target - 1, 1))
            else:
                position = (points + 0.5) * (source / target) - 0.5
            position = position.clamp(0, source - 1)
            low = position.long()
            high = (low + 1).clamp(max=source - 1)
            self.needs = (int(low[0]), int(high[-1]) + 1)
            self._points = low - low[0], high - low[0], position - low

    def apply(self, maps: Tensor, dim: int) -> Tensor:
        if self.same:
            return maps.float()
        low, high, weight = self._points_on(maps.device)
        weight = weight if dim == 2 else weight[:, None]
        # Only the needed part of a large image becomes floats.
        low, high = (maps.index_select(dim, x).float() for x in (low, high))
        return low.lerp_(high, weight)

    @torch.inference_mode(False)
    def _points_on(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Return the lower and upper neighbour of every point, and the weight of the upper one."""
        if device not in self._copies:  # a copy to a GPU takes longer than its use
            self._copies[device] = tuple(x.to(device) for x in self._points)
        return self._copies[device]


_axis = lru_cache(maxsize=256)(_Axis)  # the images of a data set have few sizes
