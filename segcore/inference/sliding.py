"""Sliding windows: the parts of an image that a model segments one by one."""

from dataclasses import dataclass
from itertools import product

import torch.nn.functional as F
from torch import Tensor

from segcore.errors import UserError

from .windows import Window

Size = tuple[int, int]


@dataclass(frozen=True)
class Sliding:
    """Windows that cover an image, and the size that images are padded to.

    Attributes:
        window: (height, width), at most the image's; (0, 0): the whole image is one window.
        stride: rows and columns from one window to the next.
        canvas: (height, width) that smaller images are padded to, at the right and the bottom.
        section: of the config whose keys have these names, for error messages.
    """

    window: Size = (0, 0)
    stride: Size = (0, 0)
    canvas: Size = (0, 0)
    section: str = "TEST"

    def __post_init__(self) -> None:
        sizes = {"WINDOW": self.window, "STRIDE": self.stride, "CANVAS": self.canvas}
        for name, value in sizes.items():
            if len(value) != 2 or min(value) < 0:
                raise UserError(
                    f"{self.section}.{name} is {list(value)}; it has to be two numbers, a height "
                    "and a width, or 0, 0."
                )
        if (self.window[0] > 0) != (self.window[1] > 0):
            raise UserError(
                f"{self.section}.WINDOW is {list(self.window)}; give both sides, or 0, 0 for "
                "the whole image."
            )
        if any(not 1 <= s <= w for s, w in zip(self.stride, self.window, strict=True) if w):
            raise UserError(
                f"{self.section}.STRIDE is {list(self.stride)}; it has to be 1 or more, and "
                f"at most the WINDOW, {list(self.window)}: otherwise no window covers some pixels."
            )

    @property
    def is_on(self) -> bool:
        """Whether there are windows, not the whole image alone."""
        return any(self.window)

    def pad(self, image: Tensor) -> Tensor:
        """Pad a normalised image (3, H, W) with zeros to the canvas."""
        height, width = image.shape[-2:]
        right, bottom = max(self.canvas[1] - width, 0), max(self.canvas[0] - height, 0)
        return F.pad(image, (0, right, 0, bottom))

    def windows(self, size: Size) -> list[Window]:
        """Return the windows of an image, row by row; the last ones end at its edges.

        In a smaller image a window has the image's size.
        """
        if not self.is_on:
            return [Window(0, size[0], 0, size[1])]
        rows, columns = map(_intervals, size, self.window, self.stride)
        return [Window(*row, *column) for row, column in product(rows, columns)]


def _intervals(size: int, window: int, stride: int) -> list[tuple[int, int]]:
    """Return (first, last + 1) of the windows along one axis."""
    window = min(window, size)
    number = -(-(size - window) // stride) + 1
    starts = (min(index * stride, size - window) for index in range(number))
    return [(start, start + window) for start in starts]
