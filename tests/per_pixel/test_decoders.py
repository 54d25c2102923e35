"""Decoders of convolutions: their shapes, and the forms that their arguments allow."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from per_pixel.aspp import ASPP
from per_pixel.fcn import FCN
from per_pixel.layers import ConvNorm
from per_pixel.upernet import UPerNet
from segcore.errors import UserError


def test_a_convolution_has_a_bias_only_without_a_norm() -> None:
    assert ConvNorm(3, 4).conv.bias is None
    layer = ConvNorm(3, 4, norm=None, activation=nn.ReLU6)
    assert [name for name, _ in layer.named_parameters()] == ["conv.weight", "conv.bias"]
    assert layer(100 * torch.rand(1, 3, 5, 5)).max() == 6
    groups = ConvNorm(3, 4, norm=partial(nn.GroupNorm, 2))
    assert isinstance(groups.norm, nn.GroupNorm) and groups.norm.num_channels == 4


@pytest.mark.parametrize(("kernel_size", "dilation"), [(1, 1), (3, 1), (3, 12)])
def test_a_convolution_keeps_the_size(kernel_size: int, dilation: int) -> None:
    layer = ConvNorm(3, 4, kernel_size, dilation=dilation)
    assert layer(torch.rand(2, 3, 7, 9)).shape == (2, 4, 7, 9)


@pytest.mark.parametrize(
    ("decoder", "channels", "size"),
    [
        (ASPP(12, 8), [12], (5, 7)),
        (FCN(12, 8, num_convs=2), [12], (5, 7)),
        (UPerNet([4, 6, 8, 12], 8), [4, 6, 8, 12], (40, 56)),
        (UPerNet([12, 12], 8, pool_scales=[1, 2], align_corners=True), [12, 12], (10, 14)),
    ],
)
def test_maps_become_one_map_of_the_finest_size(
    decoder: nn.Module, channels: list[int], size: tuple[int, int]
) -> None:
    finest = len(channels) - 1
    maps = [
        torch.randn(2, width, 5 << (finest - i), 7 << (finest - i))
        for i, width in enumerate(channels)
    ]
    decoded = decoder(maps)
    assert decoded.shape == (2, decoder.channels, *size)
    decoded.square().mean().backward()
    assert all(p.grad.abs().sum() > 0 for p in decoder.parameters())


def test_aspp_of_one_branch_without_norms() -> None:
    """The form of DeepLab's release for mobile devices."""
    decoder = ASPP(12, 8, dilations=[1], projection_size=1, norm=None, activation=nn.ReLU6)
    shapes = {name: tuple(value.shape) for name, value in decoder.state_dict().items()}
    assert shapes == {
        "image_pool.conv.weight": (8, 12, 1, 1),
        "image_pool.conv.bias": (8,),
        "branches.0.conv.weight": (8, 12, 1, 1),
        "branches.0.conv.bias": (8,),
        "bottleneck.conv.weight": (8, 16, 1, 1),
        "bottleneck.conv.bias": (8,),
    }
    x = torch.randn(2, 12, 5, 7)
    mean = F.relu6(decoder.image_pool.conv(x.mean(dim=(2, 3), keepdim=True))).expand(-1, -1, 5, 7)
    branch = F.relu6(decoder.branches[0].conv(x))
    expected = F.relu6(decoder.bottleneck.conv(torch.cat([mean, branch], dim=1)))
    torch.testing.assert_close(decoder([x]), expected)


def test_decoders_of_one_map_refuse_more() -> None:
    for decoder in (ASPP(4, 4), FCN(4, 4)):
        with pytest.raises(ValueError, match="too many values"):
            decoder([torch.rand(2, 4, 3, 3)] * 2)


def test_batch_norm_of_one_image_is_one_message() -> None:
    for decoder, maps in ((ASPP(4, 4), 1), (UPerNet([4, 4], 4), 2)):
        images = [torch.rand(1, 4, 6, 6)] * maps
        with pytest.raises(UserError, match=r"\(1, 4, 1, 1\) .* SOLVER.IMS_PER_BATCH"):
            decoder(images)
        assert decoder.eval()(images).shape == (1, 4, 6, 6)
