"""Bilinear resizing. Half-pixel centres, not antialiased, as everywhere in this project."""

import torch.nn.functional as F
from torch import Tensor


def resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, C, h, w) -> (B, C, *size)."""
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)
