"""The contrastive loss of images and texts over all processes.

Sources: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision",
ICML 2021; of several texts an image, Xu et al., "GroupViT: Semantic Segmentation Emerges from Text
Supervision", CVPR 2022, section 3.2.

Shapes: B images of a process, N of all W processes, P texts an image, C joint embedding width. All
embeddings have unit norm.
"""

from typing import Any

import torch
from torch import Tensor, autograd, distributed
from torch.utils.checkpoint import checkpoint

SIMILARITIES = 1 << 24  # held at a time


def contrastive_loss(images: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    """Match images with their texts over all processes: the mean of both directions.

    With one text an image this is InfoNCE, with several the multi-label contrastive loss. An image
    has the target 1 / P for each of its texts among all N * P; a text has its image as the target
    among all N. Gradients flow through the gathered embeddings, so that their mean over the
    processes is the gradient of one process with the whole batch.

    Args:
        images: (B, C); B is the same in all processes.
        texts: (B, P, C), those of each image.
        scale: factor of the cosine similarities, a scalar.
    """
    rows = texts.flatten(0, 1)
    own = scale * torch.einsum("bc,bpc->bp", images, texts)
    by_image = log_odds(images, gather_with_gradient(rows), scale, own.mean(dim=1))
    by_text = log_odds(rows, gather_with_gradient(images), scale, own.flatten())
    return (by_image.mean() + by_text.mean()) / 2


def log_odds(queries: Tensor, keys: Tensor, scale: Tensor, own: Tensor) -> Tensor:
    """Return log(sum of exp(scale * similarity) over all keys) - own, of each query.

    A chunk of the queries is compared at a time, in the backward pass again: the matrix of all
    similarities is never held.

    Args:
        queries: (K, C).
        keys: (N, C).
        scale: a scalar.
        own: (K,), subtracted first: the difference of large logarithms would be rounded.
    Returns:
        (K,).
    """
    size = max(SIMILARITIES // len(keys), 1)
    parts = [
        checkpoint(_log_odds, part, keys, scale, values, use_reentrant=False)
        for part, values in zip(queries.split(size), own.split(size), strict=True)
    ]
    return torch.cat(parts)


def _log_odds(queries: Tensor, keys: Tensor, scale: Tensor, own: Tensor) -> Tensor:
    return (scale * queries @ keys.T - own[:, None]).logsumexp(dim=1)


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


def _is_distributed() -> bool:
    return distributed.is_available() and distributed.is_initialized()
