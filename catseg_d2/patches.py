"""Patch inference: a picture as overlapping tiles and one global view, merged into one answer.

Source: CAT-Seg (CVPR 2024), section 3.4 and table 3.

Shapes: n crops (tiles row-major, then the global view), T classes, (H, W) the resized picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from segcore.errors import UserError

from .aggregator import DROPPED_LOGIT

MAX_ASPECT_RATIO = 32  # of pictures that keep it; their tiles grow with it
MERGE_BATCH = 16  # classes that are brought to full size together


@dataclass(frozen=True, kw_only=True)
class PatchGeometry:
    """How pictures are cut. The defaults are the published ones.

    Attributes:
        output_size: side of the resized picture; its shorter side if the aspect ratio is kept.
        tile: side of a tile, in pixels of the resized picture.
        overlap: share of a tile that its neighbour covers too, in [0, 1).
        keep_aspect_ratio: False squeezes every picture into a square, as published.
        global_view: average the tiles with the whole picture at the size of one tile.
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
        if not 0 < self.tile <= self.output_size:
            raise UserError(
                f"TEST.PATCH_INFERENCE.TILE is {self.tile}: it must be positive and at most "
                f"OUTPUT_SIZE, {self.output_size}."
            )

    def plan(self, height: int, width: int) -> "PatchPlan":
        """The tiles of a picture of ``height`` x ``width`` pixels."""
        size = (self.output_size, self.output_size)
        if self.keep_aspect_ratio:
            if max(height, width) > MAX_ASPECT_RATIO * min(height, width):
                raise UserError(
                    f"a picture of {width} x {height} pixels is too thin to be cut into tiles: set "
                    "TEST.PATCH_INFERENCE.KEEP_ASPECT_RATIO False."
                )
            scale = self.output_size / min(height, width)
            size = (max(round(height * scale), self.tile), max(round(width * scale), self.tile))
        rows, columns = (self._origins(side) for side in size)
        return PatchPlan(size, self.tile, [(y, x) for y in rows for x in columns], self.global_view)

    def _origins(self, side: int) -> list[int]:
        """Where tiles begin along a side; the last one ends at the border."""
        stride = max(int(self.tile * (1 - self.overlap)), 1)
        steps = -(-(side - self.tile) // stride)  # rounded up
        return [min(step * stride, side - self.tile) for step in range(steps + 1)]


@dataclass(frozen=True)
class PatchPlan:
    """The crops of one picture: resized to ``size``, tiles at ``origins`` (y, x)."""

    size: tuple[int, int]
    tile: int
    origins: list[tuple[int, int]]
    global_view: bool

    def cut(self, image: Tensor) -> Tensor:
        """image (3, h, w) float -> (n, 3, tile, tile)."""
        resized = resize(image[None], self.size)[0]
        crops = [resized[:, y : y + self.tile, x : x + self.tile] for y, x in self.origins]
        if self.global_view:
            crops.append(resize(image[None], (self.tile, self.tile))[0])
        return torch.stack(crops)

    def merge(self, logits: Tensor, out_size: tuple[int, int]) -> Tensor:
        """Scores of the picture from those of its crops.

        Args:
            logits: (n, T, h, w), in the order of :meth:`cut`.
            out_size: (height, width) of the answer.
        Returns:
            (T, height, width) in [0, 1].
        """
        scores = resize(logits, (self.tile, self.tile)).sigmoid()
        total = scores.new_zeros(logits.shape[1], *self.size)
        count = scores.new_zeros(self.size)
        for (y, x), score in zip(self.origins, scores, strict=False):
            total[:, y : y + self.tile, x : x + self.tile] += score
            count[y : y + self.tile, x : x + self.tile] += 1
        total /= count
        if self.global_view:
            total = (total + resize(scores[-1:], self.size)[0]) / 2
        return resize(total[None], out_size)[0]


class WholePicture:
    """The trivial plan: one crop, the picture itself, squeezed into CLIP's square later."""

    def cut(self, image: Tensor) -> Tensor:
        """image (3, h, w) -> (1, 3, h, w)."""
        return image[None]

    def merge(self, logits: Tensor, out_size: tuple[int, int]) -> Tensor:
        """logits (1, T, h, w) -> scores (T, *out_size) in [0, 1]."""
        return resize(logits.sigmoid(), out_size)[0]


def merge_crops(
    crops: Sequence[tuple[Tensor, Tensor]],
    plan: PatchPlan | WholePicture,
    num_classes: int,
    size: tuple[int, int],
) -> Tensor:
    """Scores (T, *size) of a picture; a class that no crop kept stays at zero.

    crops: for each its logits (K, h, w) and the ids (K,) of their classes, ascending.
    """
    scores = crops[0][0].new_zeros(num_classes, *size)
    for ids in torch.cat([kept for _, kept in crops]).unique().split(MERGE_BATCH):
        logits = torch.stack([_rows(*crop, ids) for crop in crops])
        scores[ids] = plan.merge(logits, size)
    return scores


def _rows(logits: Tensor, kept: Tensor, ids: Tensor) -> Tensor:
    """The rows of logits (K, h, w) that belong to ``ids``, filled where a class was dropped."""
    position = torch.searchsorted(kept, ids).clamp(max=len(kept) - 1)
    dropped = kept[position] != ids
    return logits[position].masked_fill(dropped[:, None, None], DROPPED_LOGIT)


def resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, half-pixel centres, not antialiased: (B, C, h, w) -> (B, C, *size)."""
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)
