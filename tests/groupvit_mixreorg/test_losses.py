"""The contrastive losses: values by hand, and memory."""

import math
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from groupvit_mixreorg import losses
from groupvit_mixreorg.losses import contrastive_loss
from segcore import text

SCALE = torch.tensor(5.0)


def batch(size: int = 4, prompts: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = F.normalize(torch.randn(size, 8, generator=generator), dim=-1)
    texts = F.normalize(torch.randn(size, prompts, 8, generator=generator), dim=-1)
    return images.requires_grad_(), texts.requires_grad_()


def plainly(images: Tensor, texts: Tensor) -> Tensor:
    """The definition: soft targets over all texts, and the image of each text."""
    size, prompts = texts.shape[:2]
    logits = SCALE * images @ texts.flatten(0, 1).T
    own = torch.eye(size).repeat_interleave(prompts, dim=1)
    by_image = -(own / prompts * logits.log_softmax(dim=1)).sum(dim=1).mean()
    by_text = -(own * logits.log_softmax(dim=0)).sum(dim=0).mean()
    return (by_image + by_text) / 2


@pytest.mark.parametrize("prompts", [1, 3])
@pytest.mark.parametrize("chunk", [1 << 24, 8])
def test_value_and_gradient(monkeypatch, prompts: int, chunk: int) -> None:
    monkeypatch.setattr(losses, "SIMILARITIES", chunk)
    results = []
    for function in (plainly, lambda *x: contrastive_loss(*x, SCALE)):
        leaves = batch(prompts=prompts)
        loss = function(*leaves)
        loss.backward()
        results.append((loss.detach(), *(leaf.grad for leaf in leaves)))
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)


def test_one_text_an_image_is_the_loss_of_clip() -> None:
    images, texts = batch(prompts=1)
    expected = text.contrastive_loss(images, texts[:, 0], SCALE)
    torch.testing.assert_close(contrastive_loss(images, texts, SCALE), expected)
    even = torch.ones(4, 1)
    assert contrastive_loss(even, even[:, None], SCALE).item() == pytest.approx(math.log(4))


def test_the_matrix_of_similarities_is_never_held(monkeypatch) -> None:
    """Neither forward nor backward: the largest tensor has a chunk of its rows."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from largest_tensor import LargestTensor

    monkeypatch.setattr(losses, "SIMILARITIES", 1 << 12)
    images, texts = batch(size=256, prompts=1)
    with LargestTensor() as largest:
        contrastive_loss(images, texts, SCALE).backward()
    assert largest.elements <= 1 << 12
