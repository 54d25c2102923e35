"""Bilinear resizing with half-pixel centres, without antialiasing."""

import torch.nn.functional as F
from torch import Tensor


def resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize maps (B, C, h, w) to (B, C, *size)."""
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)
