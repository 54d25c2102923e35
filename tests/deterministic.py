"""Weights and pictures that depend on names alone, so that any two implementations can share them.

A value is a hash of (name, flat index): the finaliser of 32-bit MurmurHash3, seeded with the CRC-32
of the name, scaled to unit variance.
"""

import math
import zlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

GOLDEN_RATIO, MIX_1, MIX_2 = 0x9E3779B1, 0x85EBCA6B, 0xC2B2AE35


def noise(name: str, shape: tuple[int, ...]) -> Tensor:
    """float32 of ``shape``, uniform with mean 0 and variance 1."""
    index = torch.arange(math.prod(shape)).numpy().astype(np.uint32)
    bits = index * np.uint32(GOLDEN_RATIO) + np.uint32(zlib.crc32(name.encode()))
    for shift, factor in ((16, MIX_1), (13, MIX_2)):
        bits = (bits ^ (bits >> np.uint32(shift))) * np.uint32(factor)
    bits ^= bits >> np.uint32(16)
    unit = (bits >> np.uint32(8)).astype(np.float32) / np.float32(2**24)
    return torch.from_numpy((unit * 2 - 1) * np.float32(math.sqrt(3))).reshape(shape)


def weights(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """A checkpoint: matrices and kernels of variance 1 / fan-in, norms near 1, vectors near 0."""
    return {name: _weight(name, tuple(shape)) for name, shape in shapes.items()}


def _weight(name: str, shape: tuple[int, ...]) -> Tensor:
    value = noise(name, shape)
    if len(shape) >= 2:
        return value / (value.numel() / shape[0]) ** 0.5
    return 1 + 0.1 * value if name.endswith(".weight") else 0.05 * value


def picture(name: str, height: int, width: int) -> Tensor:
    """A smooth picture with noise: (3, height, width) float32, whole numbers 0 ... 255."""
    y = torch.linspace(0, 1, height)[:, None].expand(height, width)
    x = torch.linspace(0, 1, width)[None, :].expand(height, width)
    waves = []
    for c in noise(name + "/coef", (3, 6)):
        left = torch.sin(6.0 * c[0] * x + 6.0 * c[1] * y + c[2])
        waves.append(left * torch.cos(9.0 * c[3] * x - 9.0 * c[4] * y + c[5]))
    grain = noise(name + "/noise", (3, height, width))
    return (127.5 + 90.0 * torch.stack(waves) + 12.0 * grain).clamp(0, 255).round()
