"""Weights and images that depend on names alone, so that two implementations can share them.

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
    """Return uniform float32 of ``shape``, with mean 0 and variance 1."""
    index = torch.arange(math.prod(shape)).numpy().astype(np.uint32)
    bits = index * np.uint32(GOLDEN_RATIO) + np.uint32(zlib.crc32(name.encode()))
    for shift, factor in ((16, MIX_1), (13, MIX_2)):
        bits = (bits ^ (bits >> np.uint32(shift))) * np.uint32(factor)
    bits ^= bits >> np.uint32(16)
    unit = (bits >> np.uint32(8)).astype(np.float32) / np.float32(2**24)
    return torch.from_numpy((unit * 2 - 1) * np.float32(math.sqrt(3))).reshape(shape)


def weights(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Return a checkpoint: kernels of variance 1 / fan-in, norms near 1, biases near 0."""
    return {name: _weight(name, tuple(shape)) for name, shape in shapes.items()}


def _weight(name: str, shape: tuple[int, ...]) -> Tensor:
    value = noise(name, shape)
    if len(shape) >= 2:
        return value / (value.numel() / shape[0]) ** 0.5
    return 1 + 0.1 * value if name.endswith(".weight") else 0.05 * value


# The images of the reference were computed in float32. The values of these pixels, flat indices of
# (3, height, width), are within 1e-4 of a half, and were rounded to the other integer.
ROUNDED_OTHERWISE = {
    ("catseg/input", 480, 640): (
        89521,
        129072,
        154388,
        203110,
        216337,
        388776,
        595802,
        656557,
        676815,
        774467,
        804081,
        821723,
        840558,
        881870,
        895614,
    ),
    ("catseg/train0", 384, 384): (39325, 110258, 191659, 201320, 248974, 369207),
    ("catseg/train1", 384, 384): (32236, 35368, 121540, 210696, 439359),
    ("essnet/mobilenet_os16/0", 64, 96): (),
    ("essnet/r50_os16_ade/0", 97, 129): (31681,),
    ("essnet/r50_os16_ade/1", 97, 129): (),
    ("groupvit/input", 224, 224): (34411, 36609, 45475, 72686),
    ("groupvit/input2", 224, 224): (32977, 36167, 44995, 58324, 148428),
    ("groupvit/seg5", 224, 224): (12400, 44846, 51685),
    ("hosts/deeplabv3_r101d8/0", 97, 129): (),
    ("hosts/deeplabv3_r101d8/1", 97, 129): (31641,),
    ("hosts/segmenter_vit/0", 100, 84): (),
    ("hosts/segmenter_vit/1", 100, 84): (),
    ("hosts/semask_swin/0", 96, 128): (6600,),
    ("hosts/semask_swin/1", 96, 128): (),
    ("hosts/upernet_beit/0", 96, 96): (),
    ("hosts/upernet_beit/1", 96, 96): (2768,),
    ("hosts/upernet_swin/0", 90, 121): (21288,),
    ("hosts/upernet_swin/1", 90, 121): (),
    ("hosts/vit_adapter/0", 96, 96): (10911,),
    ("hosts/vit_adapter/1", 96, 96): (3523, 10648),
    ("m2f/frame0", 96, 128): (19220,),
    ("m2f/frame1", 96, 128): (8577, 20003),
    ("m2f/input", 192, 256): (19045, 27960, 128171),
    ("m2f/input2", 160, 224): (27026, 59990),
    ("m2f/train0", 128, 128): (7652, 12654, 22515),
    ("m2f/train1", 96, 128): (),
    ("maskformer/a", 96, 128): (23767,),
    ("maskformer/b", 80, 120): (21266,),
    ("maskformer/c", 90, 121): (),
    ("maskformer/d2", 100, 90): (),
    ("vlm/input", 480, 640): (
        84985,
        177653,
        191367,
        207881,
        208369,
        219481,
        230790,
        232711,
        281064,
        301638,
        406559,
        450182,
        452848,
        485575,
        604616,
        652622,
        688316,
        699181,
        708901,
        723381,
        785268,
        809750,
        855029,
        859476,
        892624,
    ),
}


def image(name: str, height: int, width: int) -> Tensor:
    """Return a smooth image with noise: (3, height, width) float32, integers 0 ... 255.

    It is computed in float64: in float32 two processors differ in the last digit of a sine, so
    that a pixel close to a half would be rounded differently. An image that is not in
    ``ROUNDED_OTHERWISE`` is computed in float32, like its reference: correct on most processors.
    """
    others = ROUNDED_OTHERWISE.get((name, height, width))
    if others is None:
        return _waves(name, height, width, torch.float32).round()
    exact = _waves(name, height, width, torch.float64).flatten()
    whole = exact.round()
    whole[list(others)] += (exact - whole)[list(others)].sign()
    return whole.float().view(3, height, width)


def _waves(name: str, height: int, width: int, dtype: torch.dtype) -> Tensor:
    y = torch.linspace(0, 1, height, dtype=dtype)[:, None].expand(height, width)
    x = torch.linspace(0, 1, width, dtype=dtype)[None, :].expand(height, width)
    waves = []
    for c in noise(name + "/coef", (3, 6)).to(dtype):
        left = torch.sin(6.0 * c[0] * x + 6.0 * c[1] * y + c[2])
        waves.append(left * torch.cos(9.0 * c[3] * x - 9.0 * c[4] * y + c[5]))
    grain = noise(name + "/noise", (3, height, width))
    return (127.5 + 90.0 * torch.stack(waves) + 12.0 * grain).clamp(0, 255)
