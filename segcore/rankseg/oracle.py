"""What a perfect selection would give: the classes of the ground truth in place of a head's.

Shapes: B images, C classes.
"""

import torch
from torch import Tensor

from .scores import DROPPED

CERTAIN = 100.0  # a logit that says yes


def drop_absent(scores: Tensor, present: Tensor) -> Tensor:
    """The oracle of evaluation: an ordinary model may return classes that are there only.

    Args:
        scores: (B, ..., C), or (B, ..., C + 1) with "no object", which stays.
        present: (B, C) bool.
    Returns:
        Of the same shape, absent classes ``DROPPED``.
    """
    beside = present.new_ones(len(present), scores.shape[-1] - present.shape[1])
    allowed = torch.cat([present, beside], dim=1)
    return scores.masked_fill(~allowed.view(len(allowed), *[1] * (scores.ndim - 2), -1), DROPPED)


def oracle_logits(present: Tensor) -> Tensor:
    """The oracle of training and evaluation: what a head would say that knows the ground truth.

    The selection of these logits lists the classes that are there in order of their ids, the others
    behind; with a threshold of 0.5 the dynamic kappa keeps the former alone, and the first class
    where there are none.

    Args:
        present: (B, C) bool.
    Returns:
        Logits (B, C) float32.
    """
    return CERTAIN * (2 * present.float() - 1)
