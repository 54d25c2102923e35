"""Map class labels to ranks: rank 0 is the most probable class of the image.

Shapes: B images, kappa selected classes, (H, W) pixels, N regions.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def rank_table(ids: Tensor, num_classes: int, outside: int) -> Tensor:
    """Return the rank of every class, or ``outside``: ids (B, kappa) -> (B, num_classes)."""
    table = ids.new_full((len(ids), num_classes), outside)
    ranks = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    return table.scatter_(1, ids, ranks)


def pixels_to_ranks(labels: Tensor, ids: Tensor, num_classes: int, ignore: int) -> Tensor:
    """Map label maps to ranks; pixels of classes outside the selection are ignored.

    Args:
        labels: (B, H, W) int64; values outside 0 ... num_classes - 1 are no class.
        ids: (B, kappa), the selected classes of each image.
        num_classes: of all classes.
        ignore: label of the pixels without a loss.
    Returns:
        (B, H, W), 0 ... kappa - 1 or ``ignore``.
    """
    known = (labels >= 0) & (labels < num_classes)
    table = rank_table(ids, num_classes, ignore)
    ranks = table.gather(1, labels.where(known, 0).flatten(1)).view_as(labels)
    return ranks.where(known, ignore)


def regions_to_ranks(
    labels: Sequence[Tensor], ids: Tensor, num_classes: int
) -> tuple[list[Tensor], list[Tensor]]:
    """Map labels of regions to ranks; regions of classes outside the selection are left out.

    Args:
        labels: for each of B images (N,) int64, 0 ... num_classes - 1.
        ids: (B, kappa), the selected classes of each image.
        num_classes: of all classes.
    Returns:
        For each image the ranks (M,) of the kept regions, and the mask of them, (N,) bool.
    """
    ranks = [
        table[label] for table, label in zip(rank_table(ids, num_classes, -1), labels, strict=True)
    ]
    kept = [rank >= 0 for rank in ranks]
    return [rank[keep] for rank, keep in zip(ranks, kept, strict=True)], kept
