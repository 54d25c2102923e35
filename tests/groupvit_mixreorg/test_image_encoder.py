"""The image encoder: assignments, other image sizes, checkpointing, noise in training alone."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
import groupvit_models

from groupvit_mixreorg.grouping import one_hot_assignment


def test_every_token_has_one_group() -> None:
    logits = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0), requires_grad=True)
    hard = one_hot_assignment(logits, noise=False)
    assert torch.equal(hard.argmax(dim=1), logits.argmax(dim=1))
    torch.testing.assert_close(hard.sum(dim=1), torch.ones(2, 7))
    assert ((hard < 1e-6) | (hard > 1 - 1e-6)).all()
    weights = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(1))
    (hard * weights).sum().backward()
    soft = logits.detach().clone().requires_grad_()
    (soft.softmax(dim=1) * weights).sum().backward()
    torch.testing.assert_close(logits.grad, soft.grad)


def test_noise_draws_from_the_softmax() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0]).view(1, 3, 1).expand(1, 3, 20000)
    torch.manual_seed(0)
    shares = one_hot_assignment(logits, noise=True).mean(dim=2)[0]
    torch.testing.assert_close(shares, logits[0, :, 0].softmax(dim=0), atol=0.02, rtol=0)


@torch.no_grad()
def test_features() -> None:
    encoder = groupvit_models.image_encoder().eval()
    found = encoder(groupvit_models.images(2))
    assert found.segments.shape == (2, 3, 32) and found.grid == (4, 4)
    assert [tuple(x.shape) for x in found.assignments] == [(2, 6, 16), (2, 3, 6)]
    torch.testing.assert_close(found.shares.sum(dim=1), torch.ones(2, 16))
    first, second = found.assignments
    torch.testing.assert_close(found.shares[1], second[1] @ first[1])
    for part, single in zip(found.chunk(2), groupvit_models.images(2).split(1), strict=True):
        torch.testing.assert_close(part.segments, encoder(single).segments)
        assert torch.equal(part.shares, found.shares[:1]) or torch.equal(
            part.shares, found.shares[1:]
        )


@torch.no_grad()
def test_images_of_another_size_and_mode() -> None:
    encoder = groupvit_models.image_encoder().eval()
    found = encoder(groupvit_models.images(1, size=(48, 64)))
    assert found.grid == (6, 8) and found.shares.shape == (1, 3, 48)
    images = groupvit_models.images(1)
    assert torch.equal(encoder(images).segments, encoder(images).segments)
    encoder.train()
    torch.manual_seed(0)
    assert not torch.equal(encoder(images).segments, encoder(images).segments)


@pytest.mark.parametrize("drop_path", [0.0, 0.5])
def test_checkpointing_changes_nothing(drop_path: float) -> None:
    gradients = []
    for checkpointing in (False, True):
        encoder = groupvit_models.image_encoder(checkpointing=checkpointing, drop_path=drop_path)
        torch.manual_seed(0)
        encoder.train()(groupvit_models.images(2)).vector.sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in encoder.parameters()]))
    torch.testing.assert_close(*gradients, atol=0, rtol=0)
    assert gradients[0].any()


def test_every_parameter_has_a_gradient() -> None:
    encoder = groupvit_models.image_encoder().train()
    encoder(groupvit_models.images(2)).vector.square().sum().backward()
    assert all(p.grad is not None for p in encoder.parameters())


@torch.no_grad()
def test_assignments_are_float32_under_autocast() -> None:
    encoder = groupvit_models.image_encoder().eval()
    with torch.autocast("cpu", torch.bfloat16):
        found = encoder(groupvit_models.images(1))
    assert found.shares.dtype == torch.float32
    exact = encoder(groupvit_models.images(1))
    torch.testing.assert_close(found.segments.float(), exact.segments, atol=0.3, rtol=0.1)
