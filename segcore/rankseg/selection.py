"""Select classes by their multi-label logits.

Shapes: B images, C classes, kappa selected classes.
"""

import torch
from torch import Tensor

from segcore.errors import UserError


def check_kappa(kappa: int, num_classes: int) -> None:
    """Raise UserError unless the number of selected classes is 1 ... num_classes."""
    if not 1 <= kappa <= num_classes:
        raise UserError(
            f"RankSeg cannot select {kappa} of {num_classes} classes: "
            f"set MODEL.RANKSEG.TOPK to 1 ... {num_classes}"
        )


def select_top(logits: Tensor, kappa: int) -> Tensor:
    """Return the top kappa classes of each image.

    Args:
        logits: (B, C) of the multi-label head.
        kappa: number of selected classes, 1 ... C.
    Returns:
        Class ids (B, kappa) int64, the most probable first; of equal logits the lower id first. No
        gradient flows through the order.

    Raises:
        UserError: kappa is not in 1 ... C.
    """
    check_kappa(kappa, logits.shape[1])
    return logits.detach().argsort(dim=1, descending=True, stable=True)[:, :kappa]


def confident_ranks(logits: Tensor, ids: Tensor, threshold: float) -> Tensor:
    """Return the mask of confident classes among the selected ones (dynamic kappa).

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


def gather_rows(rows: Tensor, ids: Tensor) -> Tensor:
    """Return the rows of the selected classes, of each image in the order of its ranks.

    Args:
        rows: (B, C, D) of each image, or (1, C, D) of all.
        ids: (B, kappa) int64.
    Returns:
        (B, kappa, D).
    """
    rows = rows.expand(len(ids), -1, -1)
    return rows.gather(1, ids[..., None].expand(-1, -1, rows.shape[-1]))


def with_no_object(ids: Tensor, num_classes: int) -> Tensor:
    """Append the column of "no object" to those of the classes: (B, kappa) -> (B, kappa + 1)."""
    return torch.cat([ids, ids.new_full((len(ids), 1), num_classes)], dim=1)


def presence(labels: list[Tensor], num_classes: int) -> Tensor:
    """Return the mask of present classes, from the class ids of each image.

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
