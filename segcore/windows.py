"""Parts of maps."""

from dataclasses import dataclass

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
        """A view of it: maps (..., H, W) -> (..., height, width)."""
        return maps[..., self.top : self.bottom, self.left : self.right]

    def within(self, frame: "Window") -> "Window | None":
        """What lies in ``frame``, None if nothing does."""
        top, bottom = max(self.top, frame.top), min(self.bottom, frame.bottom)
        left, right = max(self.left, frame.left), min(self.right, frame.right)
        return Window(top, bottom, left, right) if top < bottom and left < right else None

    def seen_from(self, frame: "Window") -> "Window":
        """The same part, counted from the upper left corner of ``frame``."""
        return Window(
            self.top - frame.top,
            self.bottom - frame.top,
            self.left - frame.left,
            self.right - frame.left,
        )
