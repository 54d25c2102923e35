"""Upper bounds of the selection: the classes of the ground truth in place of a head's.

Shapes: B images, C classes.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from segcore.errors import UserError

from .scores import DROPPED
from .selection import presence

CERTAIN = 100.0  # the logit of a present class


def drop_absent(scores: Tensor, present: Tensor) -> Tensor:
    """Restrict the scores of an ordinary model to the present classes (oracle of evaluation).

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
    """Return the logits of a perfect multi-label head (oracle of training and evaluation).

    Their selection lists the present classes in order of their ids, then the absent ones. With a
    threshold of 0.5 the dynamic kappa keeps the present ones alone, or the first class if there are
    none.

    Args:
        present: (B, C) bool.
    Returns:
        Logits (B, C) float32.
    """
    return CERTAIN * (2 * present.float() - 1)


def presence_in_ground_truth(
    batched_inputs: Sequence[dict], class_ids: Callable[[dict], Tensor], num_classes: int
) -> Tensor:
    """Return the mask of the classes that the ground truth of each image contains, for the oracles.

    Args:
        batched_inputs: one dict an image.
        class_ids: from such a dict to the ids of its instances or segments, of any shape, int64.
        num_classes: C.
    Returns:
        (B, C) bool.

    Raises:
        UserError: an image has no ground truth.
    """
    try:
        labels = [class_ids(item) for item in batched_inputs]
    except (KeyError, AttributeError) as error:
        raise UserError(
            "MODEL.RANKSEG.USE_GT and ORACLE read the classes of the ground truth, but an image "
            "has none: set them to False, or take a mapper that reads labels."
        ) from error
    return presence(labels, num_classes)


def instance_classes(item: dict) -> Tensor:
    """Return the class ids of the ground truth instances of an image, (N,)."""
    return item["instances"].gt_classes
