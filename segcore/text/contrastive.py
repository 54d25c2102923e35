"""The contrastive loss of images and captions over all processes.

Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision",
ICML 2021.

Shapes: B pairs of a process, W processes, C joint embedding width.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, autograd, distributed


def contrastive_loss(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    """Return the symmetric cross-entropy of images and captions over all processes.

    Each process computes the rows of its batch, and gradients flow through the gathered embeddings,
    so that their mean over the processes is the gradient of one process with the whole batch.

    Args:
        image, text: (B, C), unit norm; row i of one matches row i of the other. B is the same in
            all processes.
        scale: factor of the cosine similarities, a scalar.
    """
    target = torch.arange(len(image), device=image.device) + process_rank() * len(image)
    by_image = F.cross_entropy(scale * image @ gather_with_gradient(text).T, target)
    by_text = F.cross_entropy(scale * text @ gather_with_gradient(image).T, target)
    return (by_image + by_text) / 2


def gather_with_gradient(rows: Tensor) -> Tensor:
    """Return the rows (B, C) of all processes, (W * B, C), in the order of their ranks.

    The gradient of every process flows back to the process that the rows are from. B is the same in
    all processes.
    """
    return _Gather.apply(rows) if _is_distributed() else rows


class _Gather(autograd.Function):
    @staticmethod
    def forward(context: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(gradient)
        return gradient.chunk(distributed.get_world_size())[distributed.get_rank()]


def process_rank() -> int:
    """Return the index of this process among the W processes of a distributed training."""
    return distributed.get_rank() if _is_distributed() else 0


def _is_distributed() -> bool:
    return distributed.is_available() and distributed.is_initialized()
