"""Losses of GroupViT and MixReorg.

Sources: Xu et al., "GroupViT: Semantic Segmentation Emerges from Text Supervision", CVPR 2022,
section 3.2; Cai et al., "MixReorg: Cross-Modal Mixed Patch Reorganization is a Good Mask Learner
for Open-World Semantic Segmentation", ICCV 2023.

Shapes: B images of a process, N of all processes, P texts an image, C joint width; G groups of M
mixed images, S segments, L patches of an image. All embeddings have unit norm.
"""

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from segcore.text import gather_with_gradient

SIMILARITIES = 1 << 24  # held at a time
FLOOR = 1e-6  # of probabilities


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
    target = scale * torch.einsum("bc,bpc->bp", images, texts).mean()
    by_image = log_partition(images, gather_with_gradient(rows), scale).mean()
    by_text = log_partition(rows, gather_with_gradient(images), scale).mean()
    return (by_image + by_text) / 2 - target


def log_partition(queries: Tensor, keys: Tensor, scale: Tensor) -> Tensor:
    """Return the logarithm of the sum of exp(scale * similarity) over all keys.

    A chunk of the queries is compared at a time, in the backward pass again: the matrix of all
    similarities is never held.

    Args:
        queries: (K, C).
        keys: (N, C).
        scale: a scalar.
    Returns:
        (K,).
    """
    parts = [
        checkpoint(_log_partition, part, keys, scale, use_reentrant=False)
        for part in queries.split(max(SIMILARITIES // len(keys), 1))
    ]
    return torch.cat(parts)


def _log_partition(queries: Tensor, keys: Tensor, scale: Tensor) -> Tensor:
    return (scale * queries @ keys.T).logsumexp(dim=1)


def patch_probabilities(
    segments: Tensor,
    texts: Tensor,
    shares: Tensor,
    scale: Tensor | float,
    negatives: Tensor | None = None,
) -> Tensor:
    """Return, for every patch of mixed images, the probabilities of the texts of its group.

    Args:
        segments: (G, M, S, C), of the mixed images.
        texts: (G, M, C), of the original images.
        shares: (G, M, S, L), of the segments in each patch.
        scale: factor of the cosine similarities.
        negatives: (N, C), the texts that a segment chooses from, among them those of its group;
            None: those of its group.
    Returns:
        (G, M, L, M).
    """
    logits = scale * segments @ texts[:, None].transpose(-1, -2)  # (G, M, S, M)
    compared = logits if negatives is None else scale * segments @ negatives.T
    of_segments = (logits - compared.logsumexp(dim=-1, keepdim=True)).exp()
    return shares.transpose(-1, -2) @ of_segments


def mixed_segmentation_loss(probabilities: Tensor, sources: Tensor) -> Tensor:
    """Return the mean of -log of the probability of the text that each patch is from.

    Args:
        probabilities: (G, M, L, M), of :func:`patch_probabilities`.
        sources: (G, M, L), the image in the group that each patch is from.
    """
    own = probabilities.gather(-1, sources[..., None])
    return -own.clamp_min(FLOOR).log().mean()
