"""Bipartite matching of queries and objects (DETR; Mask2Former, CVPR 2022).

Shapes: B images or clips, Q queries, K classes of the class logits (those selected), T frames (1
for an image), N objects of one image, P points.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from .points import sample_maps, sample_masks


@dataclass(frozen=True)
class Weights:
    """Weights of class, binary cross-entropy and dice, in the matching costs and the losses."""

    classes: float = 2.0
    mask: float = 5.0
    dice: float = 5.0


@torch.no_grad()
def matching_costs(
    class_logits: Tensor,
    mask_logits: Tensor,
    labels: Sequence[Tensor],
    masks: Sequence[Tensor],
    points: Tensor,
    weights: Weights,
) -> list[Tensor]:
    """Return the matching cost of every pair of query and object.

    Args:
        class_logits: (B, Q, K + 1), the last one "no object".
        mask_logits: (B, Q, T, h, w).
        labels: for each image (N,) int64, 0 ... K - 1.
        masks: for each image (N, T, H, W) bool, of the size of the padded input.
        points: (B, P, 2), at which the masks of an image are compared.
        weights: of the three costs.
    Returns:
        For each image (Q, N).
    """
    probabilities = class_logits.softmax(dim=-1)
    logits = sample_maps(mask_logits.flatten(1, 2), points)
    logits = logits.unflatten(1, mask_logits.shape[1:3]).flatten(2)  # (B, Q, T P)
    inside = logits.sigmoid()
    zeros = F.softplus(logits).mean(dim=-1)  # the cross-entropy with an empty mask
    costs = []
    for b, (label, mask) in enumerate(zip(labels, masks, strict=True)):
        target = sample_masks(mask.flatten(0, 1), points[b : b + 1])
        target = target.unflatten(0, mask.shape[:2]).flatten(1)  # (N, T P)
        cross_entropy = zeros[b][:, None] - logits[b] @ target.T / target.shape[1]
        sizes = inside[b].sum(dim=-1)[:, None] + target.sum(dim=-1)
        dice = 1 - (2 * inside[b] @ target.T + 1) / (sizes + 1)
        costs.append(
            weights.mask * cross_entropy
            + weights.dice * dice
            - weights.classes * probabilities[b][:, label]
        )
    return costs


def assign(costs: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Return the pairs of queries and objects with the lowest total cost, each used at most once.

    All matrices are copied to the CPU in one transfer, so that a GPU synchronizes once.

    Args:
        costs: any number of cost matrices (Q, N).
    Returns:
        For each matrix the queries (M,), ascending, and their objects (M,), int64 on the device of
        the costs; M = min(Q, N).
    """
    # The costs of a diverged model are not finite. Any pairs do: its losses are not finite either.
    flat = torch.cat([cost.flatten() for cost in costs]).nan_to_num().cpu()
    parts = flat.split([cost.numel() for cost in costs])
    pairs = []
    for part, cost in zip(parts, costs, strict=True):
        queries, objects = linear_sum_assignment(part.view(cost.shape).numpy())
        pairs.append(tuple(torch.as_tensor(i, device=cost.device) for i in (queries, objects)))
    return pairs
