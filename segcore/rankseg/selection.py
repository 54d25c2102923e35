"""Which classes are selected, and in which order.

Shapes: B images, C classes, kappa selected classes.
"""

import torch
from torch import Tensor

from segcore.errors import UserError


def check_kappa(kappa: int, num_classes: int) -> None:
    """Refuse a number of selected classes that is not 1 ... num_classes.

    Raises:
        UserError: it is not.
    """
    if not 1 <= kappa <= num_classes:
        raise UserError(
            f"RankSeg cannot select {kappa} of {num_classes} classes: "
            f"set MODEL.RANKSEG.TOPK to 1 ... {num_classes}"
        )


def select_top(logits: Tensor, kappa: int) -> Tensor:
    """The likeliest classes of each image.

    Args:
        logits: (B, C) of the multi-label head.
        kappa: how many to keep, 1 ... C.
    Returns:
        Class ids (B, kappa) int64, the likeliest first; of equal logits the lower id. No gradient
        flows through an order.

    Raises:
        UserError: kappa is not in 1 ... C.
    """
    check_kappa(kappa, logits.shape[1])
    return logits.detach().argsort(dim=1, descending=True, stable=True)[:, :kappa]


def confident_ranks(logits: Tensor, ids: Tensor, threshold: float) -> Tensor:
    """Dynamic kappa: which of the selected classes the head believes in.

    Args:
        logits: (B, C) of the multi-label head.
        ids: (B, kappa) of :func:`select_top`.
        threshold: probability that a class has to exceed.
    Returns:
        (B, kappa) bool, true for a leading run of ranks; the first one is always kept.
    """
    kept = logits.detach().gather(1, ids).sigmoid() > threshold
    kept[:, 0] = True
    return kept


def with_no_object(ids: Tensor, num_classes: int) -> Tensor:
    """Columns of scores with "no object" behind the classes: ids (B, kappa) -> (B, kappa + 1)."""
    return torch.cat([ids, ids.new_full((len(ids), 1), num_classes)], dim=1)


def presence(labels: list[Tensor], num_classes: int) -> Tensor:
    """Which classes are present, from the class ids of each image.

    Args:
        labels: for each of B images the ids of its regions or pixels, of any shape, int64; values
            outside 0 ... C - 1, such as an ignore label, are no class.
        num_classes: C.
    Returns:
        (B, C) bool.
    """
    found = []
    for ids in labels:
        known = ids[(ids >= 0) & (ids < num_classes)]
        present = torch.zeros(num_classes, dtype=torch.bool, device=ids.device)
        found.append(present.index_fill(0, known.flatten(), True))
    return torch.stack(found)
