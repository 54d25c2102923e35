"""The contrastive loss of images and captions over all processes.

Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision",
ICML 2021.

Shapes: B pairs of a process, W processes, C joint embedding width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, distributed
from torch.distributed.nn.functional import all_gather


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
    if not _is_distributed():
        return rows
    return torch.cat(all_gather(rows.contiguous()))


def process_rank() -> int:
    """Return the index of this process among the W processes of a distributed training."""
    return distributed.get_rank() if _is_distributed() else 0


def _is_distributed() -> bool:
    return distributed.is_available() and distributed.is_initialized()
