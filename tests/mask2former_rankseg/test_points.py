"""Masks sampled at points, compared with reference outputs and grid_sample."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mask2former_rankseg.points import RandomPoints, sample_maps, sample_masks

sys.path.insert(0, str(Path(__file__).parents[1]))
from deterministic import noise


def unit(name: str, shape: tuple[int, ...]) -> Tensor:
    return (noise(name, shape) / math.sqrt(3) + 1) / 2


def test_golden_uncertain_points(golden: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with np.load(golden / "mask2former_rankseg" / "importance_sampling.npz") as arrays:
        expected = torch.from_numpy(arrays["coords"])
    draws = iter([unit("m2f/imp/rand0", (6, 192, 2)), unit("m2f/imp/rand1", (6, 16, 2))])
    monkeypatch.setattr(torch, "rand", lambda *shape, device: next(draws))
    chosen = RandomPoints(64).uncertain(3 * noise("m2f/imp/logits", (6, 1, 24, 32))[:, 0])
    torch.testing.assert_close(chosen, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (5, 9), (64, 48)])
def test_masks_have_the_values_of_maps(size: tuple[int, int]) -> None:
    masks, points = torch.rand(3, *size) > 0.5, torch.rand(3, 200, 2)
    points[:, :4] = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    expected = sample_maps(masks[:, None].float(), points)[:, 0]
    torch.testing.assert_close(sample_masks(masks, points), expected, rtol=0, atol=1e-4)
    shared = sample_masks(masks, points[:1])
    torch.testing.assert_close(shared[1], sample_masks(masks[1:2], points[:1])[0])


def test_pixel_centres_and_points_outside() -> None:
    masks = torch.tensor([[[True, False], [True, True]]])
    points = torch.tensor([[[0.25, 0.25], [0.75, 0.25], [0.5, 0.5], [0.0, 0.75]]])
    assert sample_masks(masks, points).tolist() == [[1.0, 0.0, 0.75, 0.5]]
    assert sample_masks(masks[:0], points).shape == (0, 4)


def test_uncertain_points_are_near_the_outline() -> None:
    logits = torch.linspace(-8, 8, 64).expand(1, 64, 64)  # changes sign at x = 0.5
    torch.manual_seed(0)
    x = RandomPoints(1000).uncertain(logits)[0, :, 0]
    assert (x[:750] - 0.5).abs().max() < 0.2
    assert x[750:].std() > 0.2 and len(x) == 1000
