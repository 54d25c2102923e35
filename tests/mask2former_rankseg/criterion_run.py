"""One of several processes that each compute the losses of an image; see test_criterion.py.

python criterion_run.py FOLDER RANK WORLD_SIZE
"""

import sys
from pathlib import Path

import torch
from torch import Tensor, distributed

from mask2former_rankseg.criterion import Criterion
from mask2former_rankseg.points import RandomPoints


class FixedPoints(RandomPoints):
    """The same points for every mask, within 0.05 ... 0.95."""

    def draw(self, number: int, points: int, device: torch.device) -> Tensor:
        x = torch.linspace(0.05, 0.95, points, device=device)
        return torch.stack([x, 0.05 + 0.9 * x.flip(0) ** 2], dim=-1).expand(number, -1, -1)


def gradients(predictions: list, labels: list[Tensor], masks: list[Tensor]) -> list:
    """Return the gradients of the class and mask logits of each layer."""
    predictions = [tuple(t.detach().requires_grad_() for t in pair) for pair in predictions]
    losses = Criterion(5, points=FixedPoints(64))(predictions, labels, masks)
    sum(losses.values()).backward()
    return [tuple(t.grad for t in pair) for pair in predictions]


def main(folder: Path, rank: int, world_size: int) -> None:
    store = f"file://{folder}/store"
    distributed.init_process_group("gloo", store, rank=rank, world_size=world_size)
    mine = slice(rank, rank + 1)
    found = []
    for predictions, labels, masks in torch.load(folder / "inputs.pt"):
        parts = [tuple(t[mine] for t in pair) for pair in predictions]
        found.append(gradients(parts, labels[mine], masks[mine]))
    torch.save(found, folder / f"{rank}.pt")
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
