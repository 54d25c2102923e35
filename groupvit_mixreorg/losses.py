"""The segmentation loss of MixReorg's mixed images.

Source: Cai et al., "MixReorg: Cross-Modal Mixed Patch Reorganization is a Good Mask Learner
for Open-World Semantic Segmentation", ICCV 2023.

Shapes: G groups of M mixed images, N texts, S segments, L patches of an image, C joint width. All
embeddings have unit norm.
"""

from torch import Tensor

FLOOR = 1e-6  # of probabilities


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
