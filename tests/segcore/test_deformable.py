"""Deformable attention, compared with reference outputs and with sampling level by level."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from segcore.deformable import DeformableAttention, pixel_centres, sample

sys.path.insert(0, str(Path(__file__).parents[1]))
import deterministic

SIZES = ((6, 8), (12, 16), (24, 32))


def inputs(sizes=SIZES, batch=2, queries=50, heads=8, width=32, points=4):
    """The inputs of the reference outputs."""
    tokens = sum(height * width for height, width in sizes)
    grid = (batch, queries, heads, len(sizes), points)
    value = deterministic.noise("m2f/msda/value", (batch, tokens, heads, width))
    locations = 0.5 + 0.45 * deterministic.noise("m2f/msda/loc", (*grid, 2))
    weights = deterministic.noise("m2f/msda/weight", (*grid[:3], grid[3] * points))
    return value, locations, weights.softmax(-1).view(grid)


def map_by_map(value, sizes, locations, weights):
    """The definition, a level at a time."""
    batch, _, heads, _ = value.shape
    total, start = 0, 0
    for level, (height, width) in enumerate(sizes):
        part = value[:, start : start + height * width].permute(0, 2, 3, 1)
        maps = part.reshape(batch * heads, -1, height, width)
        grid = 2 * locations[:, :, :, level].transpose(1, 2).flatten(0, 1) - 1
        samples = F.grid_sample(maps, grid, align_corners=False).unflatten(0, (batch, heads))
        total = total + torch.einsum("bmdqp,bqmp->bqmd", samples, weights[:, :, :, level])
        start += height * width
    return total.flatten(2)


def test_equals_reference(golden) -> None:
    expected = np.load(golden / "mask2former_rankseg" / "msdeform_attn.npz")
    value, locations, weights = (tensor.requires_grad_() for tensor in inputs())
    output = sample(value, SIZES, locations, weights)
    output.backward(deterministic.noise("m2f/msda/gout", tuple(output.shape)))
    for found, name, tolerance in (
        (output, "output", 2e-6),
        (locations.grad, "grad_loc", 5e-6),
        (weights.grad, "grad_weight", 5e-6),
        (value.grad[:, ::16, :, ::4], "grad_value_strided_1_16_1_4", 5e-6),
    ):
        wanted = torch.from_numpy(expected[name])
        assert (found - wanted).abs().max() <= tolerance * wanted.abs().max(), name


@pytest.mark.parametrize("sizes", [((1, 1),), ((3, 5), (1, 7)), ((7, 2), (4, 4), (9, 11))])
def test_equals_the_definition(sizes) -> None:
    arguments = inputs(sizes, batch=3, queries=4, heads=2, width=5, points=3)
    tensors = [tensor.double().requires_grad_() for tensor in arguments]
    value, locations, weights = tensors
    found = sample(value, sizes, locations, weights)
    expected = map_by_map(value, sizes, locations, weights)
    torch.testing.assert_close(found, expected)
    gradients = [
        torch.autograd.grad(output.square().sum(), tensors) for output in (found, expected)
    ]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_half_the_precision() -> None:
    value, locations, weights = inputs()
    exact = sample(value, SIZES, locations, weights)
    rounded = sample(value.bfloat16(), SIZES, locations, weights.bfloat16())
    assert rounded.dtype == torch.bfloat16
    assert (rounded.float() - exact).abs().max() < 0.05 * exact.abs().max()


@torch.no_grad()
def test_initial_offsets() -> None:
    """Head m samples in direction m, point p at p pixels; all points have the same weight."""
    layer = DeformableAttention(32, num_levels=2)
    offsets = layer.sampling_offsets(torch.randn(1, 32)).view(8, 2, 4, 2)
    assert torch.equal(offsets[:, 0], offsets[:, 1])
    distance = offsets.abs().amax(dim=-1)
    torch.testing.assert_close(distance, torch.arange(1.0, 5).expand(8, 2, 4))
    torch.testing.assert_close(offsets[0, 0, 2], torch.tensor([3.0, 0.0]))
    torch.testing.assert_close(offsets[3, 0, 0], torch.tensor([-1.0, 1.0]))
    assert (layer.attention_weights(torch.randn(1, 32)) == 0).all()


@torch.no_grad()
def test_at_the_centre_of_a_pixel_is_the_pixel() -> None:
    value, sizes = torch.randn(1, 15, 1, 2), ((3, 5),)
    locations = pixel_centres(3, 5).view(1, 15, 1, 1, 1, 2)
    found = sample(value, sizes, locations, torch.ones(1, 15, 1, 1, 1))
    torch.testing.assert_close(found, value[:, :, 0], rtol=0, atol=1e-5)


def test_nan_stays_nan() -> None:
    """A diverged model shows in its losses: it must not read outside the maps."""
    value, locations, weights = inputs()
    locations[0, 0, 0, 0, 0] = torch.tensor([torch.nan, torch.inf])
    found = sample(value, SIZES, locations, weights)
    assert found[0, 0].isnan().any() and not found[0, 1:].isnan().any()
