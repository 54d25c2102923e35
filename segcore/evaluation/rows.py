"""Rows of numbers of many images, in one block of memory."""

import torch
from torch import Tensor

FIRST = 256  # rows of the first block


class Rows:
    """A table (N, C) that grows by one row an image.

    A small tensor kept of every image would lie between the activations that the network frees, and
    cut their memory into pieces that the next image does not fit into: the process would grow by
    about one activation an image. The block here is copied when it is full, to one of twice the
    size.
    """

    def __init__(self, rows: Tensor | None = None) -> None:
        """
        Args:
            rows: (N, C) to begin with; None: none.
        """
        self._block, self._size = rows, 0 if rows is None else len(rows)

    def append(self, row: Tensor) -> None:
        """Copy a row (C,), which determines type and width if it is the first."""
        if self._block is None:
            self._block = torch.empty(FIRST, *row.shape, dtype=row.dtype)
        elif self._size == len(self._block):
            self._block = torch.cat([self._block, torch.empty_like(self._block)])
        self._block[self._size] = row
        self._size += 1

    def table(self) -> Tensor:
        """Return a copy (N, C), without the spare rows of the block; (0,) without rows."""
        return torch.zeros(0) if self._block is None else self._block[: self._size].clone()
