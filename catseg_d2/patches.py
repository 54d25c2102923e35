"""Patch inference: split an image into overlapping tiles and one global view.

Source: CAT-Seg (CVPR 2024), section 3.4 and table 3.

Shapes: n crops (the global view if there is one, then tiles row-major), (H, W) the resized image.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from segcore.errors import UserError
from segcore.inference.windows import Window, WindowResize

MAX_ASPECT_RATIO = 32  # of images that keep it; their tiles grow with it


@dataclass(frozen=True, kw_only=True)
class PatchGeometry:
    """How images are split. The defaults are the published ones.

    Attributes:
        output_size: side of the resized image, its shorter side if the aspect ratio is kept;
            0 does not resize the image, unless a side is shorter than a tile.
        tile: side of a tile, in pixels of the resized image.
        overlap: fraction of a tile that the next one covers too, in [0, 1).
        keep_aspect_ratio: False resizes every image to a square, as published.
        global_view: average the tiles with the whole image, resized to one tile.
    """

    output_size: int = 640
    tile: int = 384
    overlap: float = 0.333
    keep_aspect_ratio: bool = False
    global_view: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < 1:
            raise UserError(
                f"TEST.PATCH_INFERENCE.OVERLAP is {self.overlap}: use at least 0 and below 1."
            )
        if self.tile <= 0 or 0 != self.output_size < self.tile:
            raise UserError(
                f"TEST.PATCH_INFERENCE.TILE is {self.tile}: it must be positive and at most "
                f"OUTPUT_SIZE, {self.output_size}, unless that is 0."
            )

    def plan(self, height: int, width: int) -> "PatchPlan":
        """Plan the tiles of an image of ``height`` x ``width`` pixels."""
        size = self._size(height, width)
        rows, columns = (self._starts(side) for side in size)
        return PatchPlan(size, self.tile, (rows, columns), self.global_view)

    def _size(self, height: int, width: int) -> tuple[int, int]:
        if self.output_size and not self.keep_aspect_ratio:
            return self.output_size, self.output_size
        shorter, longer = sorted((height, width))
        if longer > MAX_ASPECT_RATIO * shorter:
            raise UserError(
                f"an image of {width} x {height} pixels is too narrow to be split into tiles: set "
                "TEST.PATCH_INFERENCE.KEEP_ASPECT_RATIO False and OUTPUT_SIZE above 0."
            )
        scale = (self.output_size or max(shorter, self.tile)) / shorter
        return tuple(max(round(side * scale), self.tile) for side in (height, width))

    def _starts(self, side: int) -> tuple[int, ...]:
        """Return where tiles start along a side; the last one ends at the border."""
        stride = max(int(self.tile * (1 - self.overlap)), 1)
        steps = -(-(side - self.tile) // stride)  # rounded up
        return tuple(min(step * stride, side - self.tile) for step in range(steps + 1))


@dataclass(frozen=True)
class PatchPlan:
    """The crops of one image: the global view, then a tile for each of rows x columns.

    Attributes:
        size: of the resized image.
        tile: side of a tile.
        starts: the rows and the columns where tiles begin, ascending.
        global_view: whether the first crop is the whole image.
    """

    size: tuple[int, int]
    tile: int
    starts: tuple[tuple[int, ...], tuple[int, ...]]
    global_view: bool

    def __len__(self) -> int:
        rows, columns = self.starts
        return self.global_view + len(rows) * len(columns)

    def cut(self, image: Tensor) -> Iterator[Tensor]:
        """Yield the crops (3, tile, tile) float of an image (3, h, w), RGB, 0..255."""
        if self.global_view:
            yield _resized(image, (self.tile, self.tile))
        if image.shape[1:] != self.size:
            image = _resized(image, self.size)
        for index in range(self.global_view, len(self)):
            yield self.tile_window(index).of(image).float()

    def crops_within(self, window: Window) -> list[int]:
        """Return the indices of the crops that overlap ``window``."""
        spans = ((window.top, window.bottom), (window.left, window.right))
        rows, columns = (
            range(bisect_right(starts, first - self.tile), bisect_left(starts, last))
            for starts, (first, last) in zip(self.starts, spans, strict=True)
        )
        across = len(self.starts[1])
        tiles = [self.global_view + row * across + column for row in rows for column in columns]
        return [0] * self.global_view + tiles

    def tile_window(self, index: int) -> Window | None:
        """Return the window of the tile of that index; None for the global view."""
        if index < self.global_view:
            return None
        row, column = divmod(index - self.global_view, len(self.starts[1]))
        y, x = self.starts[0][row], self.starts[1][column]
        return Window(y, y + self.tile, x, x + self.tile)


@dataclass(frozen=True)
class WholeImage:
    """The plan without tiles: the whole image, which is resized to CLIP's input later.

    Attributes:
        size: of the prediction, to which the scores are resized from the size of the logits.
    """

    size: tuple[int, int]
    tile = None
    starts = ((0,), (0,))
    global_view = True

    def __len__(self) -> int:
        return 1

    def cut(self, image: Tensor) -> Iterator[Tensor]:
        """Yield the image (3, h, w), RGB, 0..255, itself, float."""
        yield image.float()

    def crops_within(self, window: Window) -> list[int]:
        """Return the index of the only crop."""
        return [0]

    def tile_window(self, index: int) -> None:
        """Return None: the crop is not a tile."""


def _resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize an image (3, h, w) to (3, *size) float."""
    return WindowResize(image.shape[1:], size, Window(0, size[0], 0, size[1]))(image)
