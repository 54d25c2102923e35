"""Learned attention biases by the offset between two patches, for any grid (BEiT).

Source: Bao et al., "BEiT: BERT Pre-Training of Image Transformers", ICLR 2022, section 2.5 and the
released code's resampling for another grid.

Shapes: (h, w) a grid of patches, O = (2 h - 1) (2 w - 1) offsets, N = 1 + h * w tokens, the class
token first.
"""

import math
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from scipy.interpolate import make_interp_spline
from torch import Tensor, nn

from segcore.errors import UserError

from .swin import offset_index

Grid = tuple[int, int]
CLASS_ROWS = 3  # of a table: class to patch, patch to class, class to class
RATIOS = 1.01, 1.5  # between which the distances of a table may grow when it is resampled


class RelativePositions(nn.Module):
    """The attention biases of one layer."""

    def __init__(self, grid: Grid, num_heads: int) -> None:
        """
        Args:
            grid: that the table is made for; it is resampled for another one.
        """
        super().__init__()
        self.grid = grid
        rows = (2 * grid[0] - 1) * (2 * grid[1] - 1) + CLASS_ROWS
        self.table = nn.Parameter(torch.zeros(rows, num_heads))

    def forward(self, grid: Grid, index: Tensor) -> Tensor:
        """
        Args:
            grid: of the image.
            index: (N, N), :func:`token_index` of that grid.
        Returns:
            (1, heads, N, N): what is added to the logit of each query and key.
        """
        return resample(self.table, self.grid, grid)[index].permute(2, 0, 1)[None]

    def fit_parameter(self, _: str, value: Tensor) -> Tensor:
        """Fit the table of a checkpoint: see :func:`fit`."""
        return fit(value, self.grid)


def token_index(grid: Grid) -> Tensor:
    """Return the row of the table for each query and key: (N, N) int64."""
    offsets = (2 * grid[0] - 1) * (2 * grid[1] - 1)
    index = F.pad(offset_index(*grid), (1, 0, 1, 0))
    index[0, 1:], index[1:, 0], index[0, 0] = offsets, offsets + 1, offsets + 2
    return index


def resample(table: Tensor, old: Grid, new: Grid) -> Tensor:
    """Resample a table for another grid, rows and columns apart; the class token's are copied.

    Args:
        table: (O + 3, heads).
        old, new: grids of at least 3 patches down and across.
    Returns:
        (O' + 3, heads).
    """
    if tuple(old) == tuple(new):
        return table
    rows, columns = (
        torch.from_numpy(_spline(2 * before - 1, 2 * after - 1)).to(table)
        for before, after in zip(old, new, strict=True)
    )
    offsets = table[:-CLASS_ROWS].unflatten(0, (2 * old[0] - 1, 2 * old[1] - 1))
    offsets = torch.einsum("ai,bj,ijc->abc", rows, columns, offsets)
    return torch.cat([offsets.flatten(0, 1), table[-CLASS_ROWS:]])


def fit(table: Tensor, grid: Grid) -> Tensor:
    """Resample the table of a checkpoint, which is one of a square grid, for another grid.

    Raises:
        UserError: it is a table of another grid that is not square or has less than 3 patches.
    """
    offsets = len(table) - CLASS_ROWS
    if offsets == (2 * grid[0] - 1) * (2 * grid[1] - 1):
        return table
    side = math.isqrt(max(offsets, 0))
    if side * side != offsets or side % 2 == 0 or side < 5:
        raise UserError(
            f"the checkpoint holds relative positions of {offsets} offsets, those of no square "
            "grid: set MODEL.BEIT.IMAGE_SIZE to the size that it was trained at"
        )
    return resample(table, ((side + 1) // 2,) * 2, grid)


@lru_cache(maxsize=16)
def _spline(old: int, new: int) -> np.ndarray:
    """Return the matrix (new, old) that resamples a row of values by a cubic spline.

    The old values lie at distances from the centre that grow geometrically, 1, 1 + q, 1 + q + q^2,
    ..., with q so that they reach as far as the new ones, which lie at 1, 2, 3, ...
    """
    half = old // 2
    low, high = RATIOS
    while high - low > 1e-6:
        ratio = (low + high) / 2
        beyond = (1 - ratio**half) / (1 - ratio) > new // 2
        low, high = (low, ratio) if beyond else (ratio, high)
    distances = np.cumsum(ratio ** np.arange(half))
    source = np.concatenate([-distances[::-1], [0], distances])
    target = np.arange(-(new // 2), new // 2 + 1).clip(source[0], source[-1])
    return make_interp_spline(source, np.eye(old), k=3)(target)
