"""The contrastive loss equals open_clip's; two processes compute the gradients of one."""

from pathlib import Path

import open_clip
import pytest
import torch
import torch.nn.functional as F
from torch import distributed, multiprocessing

from segcore.text import contrastive_loss, gather_with_gradient

PAIRS, WIDTH = 6, 5


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    image, text = F.normalize(torch.randn(2, PAIRS, WIDTH), dim=-1)
    return image.requires_grad_(), text.requires_grad_(), torch.tensor(7.0, requires_grad=True)


def test_the_loss_equals_open_clip() -> None:
    image, text, scale = inputs()
    expected = open_clip.ClipLoss()(image, text, scale)
    torch.testing.assert_close(contrastive_loss(image, text, scale), expected)


def test_a_single_process_gathers_its_rows() -> None:
    image = inputs()[0]
    assert gather_with_gradient(image) is image


def work(rank: int, folder: str) -> None:
    """Save the loss and the gradients of this process's half of the pairs."""
    store = f"file://{folder}/store"
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    image, text, scale = inputs()
    half = slice(rank * PAIRS // 2, (rank + 1) * PAIRS // 2)
    loss = contrastive_loss(image[half], text[half], scale)
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
    loss = contrastive_loss(image, text, scale)
    loss.backward()
    for value, expected in zip(found, (loss, image.grad, text.grad, scale.grad), strict=True):
        torch.testing.assert_close(value, expected.detach())
