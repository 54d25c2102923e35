"""The contrastive loss: values, memory, and several processes."""

import math
import sys
from pathlib import Path

import open_clip
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, distributed, multiprocessing

from segcore.text import contrastive, contrastive_loss, gather_with_gradient

PAIRS, WIDTH = 6, 5
SCALE = torch.tensor(5.0)


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    image, text = F.normalize(torch.randn(2, PAIRS, WIDTH), dim=-1)
    return image.requires_grad_(), text.requires_grad_(), torch.tensor(7.0, requires_grad=True)


def test_the_loss_equals_open_clip() -> None:
    image, text, scale = inputs()
    expected = open_clip.ClipLoss()(image, text, scale)
    torch.testing.assert_close(contrastive_loss(image, text[:, None], scale), expected)


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


def test_the_loss_of_perfect_and_of_equal_pairs() -> None:
    scale = torch.tensor(100.0)
    assert contrastive_loss(torch.eye(4), torch.eye(4)[:, None], scale) < 1e-6
    even = contrastive_loss(torch.ones(4, 1), torch.ones(4, 1, 1), scale)
    assert even.item() == pytest.approx(math.log(4))


@pytest.mark.parametrize("prompts", [1, 3])
@pytest.mark.parametrize("chunk", [1 << 24, 8])
def test_value_and_gradient(monkeypatch, prompts: int, chunk: int) -> None:
    monkeypatch.setattr(contrastive, "SIMILARITIES", chunk)
    results = []
    for function in (plainly, lambda *x: contrastive_loss(*x, SCALE)):
        leaves = batch(prompts=prompts)
        loss = function(*leaves)
        loss.backward()
        results.append((loss.detach(), *(leaf.grad for leaf in leaves)))
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected)


def test_the_matrix_of_similarities_is_never_held(monkeypatch) -> None:
    """Neither forward nor backward: the largest tensor has a chunk of its rows."""
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from largest_tensor import LargestTensor

    monkeypatch.setattr(contrastive, "SIMILARITIES", 1 << 12)
    images, texts = batch(size=256, prompts=1)
    with LargestTensor() as largest:
        contrastive_loss(images, texts, SCALE).backward()
    assert largest.elements <= 1 << 12


def test_a_single_process_gathers_its_rows() -> None:
    image = inputs()[0]
    assert gather_with_gradient(image) is image


def work(rank: int, folder: str) -> None:
    """Save the loss and the gradients of this process's half of the pairs."""
    store = f"file://{folder}/store"
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    image, text, scale = inputs()
    half = slice(rank * PAIRS // 2, (rank + 1) * PAIRS // 2)
    loss = contrastive_loss(image[half], text[half][:, None], scale)
    loss.backward()
    for value in (total := [loss.detach(), image.grad, text.grad, scale.grad]):
        distributed.all_reduce(value)
    if rank == 0:
        torch.save([value / 2 for value in total], Path(folder) / "found.pth")
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path: Path) -> None:
    multiprocessing.spawn(work, (str(tmp_path),), nprocs=2)
    found = torch.load(tmp_path / "found.pth", weights_only=True)
    image, text, scale = inputs()
    loss = contrastive_loss(image, text[:, None], scale)
    loss.backward()
    for value, expected in zip(found, (loss, image.grad, text.grad, scale.grad), strict=True):
        torch.testing.assert_close(value, expected.detach())
