"""Training losses of MaskFormer, which compare masks at all pixels: focal and dice loss.

Source: Cheng et al., "Per-Pixel Classification is Not All You Need for Semantic Segmentation",
NeurIPS 2021, section 3.3; the focal loss is that of Lin et al., ICCV 2017.

Shapes: B images, Q queries, K classes of the class logits, N objects of one image, M matched pairs
of the batch, (h, w) the map of the mask logits, (H, W) the padded input, P = h w.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .criterion import Criterion, Pairs
from .matcher import Weights

ALPHA, GAMMA = 0.25, 2  # weight of the pixels inside a mask, and focusing exponent


class WholeMaskCriterion(Criterion):
    """Matches at the size of the predictions, and computes the losses at the size of the input.

    Arguments as of :class:`Criterion`; there are no points. Masks are those of images, not clips.
    """

    def costs(
        self,
        classes: Tensor,
        mask_logits: Tensor,
        labels: Sequence[Tensor],
        masks: Sequence[Tensor],
    ) -> list[Tensor]:
        return whole_mask_costs(classes, mask_logits[:, :, 0], labels, masks, self.weights)

    def mask_losses(
        self, logits: Tensor, masks: Sequence[Tensor], pairs: Pairs
    ) -> tuple[Tensor, Tensor]:
        """Focal and dice loss, each summed over the matched masks; arguments as of the base."""
        matched = [row[queries, 0] for row, (queries, _) in zip(logits, pairs, strict=True)]
        target = [mask[objects, 0] for mask, (_, objects) in zip(masks, pairs, strict=True)]
        matched, target = torch.cat(matched).float(), torch.cat(target)
        if not len(matched):
            zero = matched.sum()  # with a graph: distributed training waits for all gradients
            return zero, zero
        size = target.shape[-2:]
        matched = F.interpolate(matched[:, None], size, mode="bilinear", align_corners=False)
        matched, target = matched.flatten(1), target.flatten(1)
        focal = focal_loss(matched, target.float()).mean(dim=1)
        inside = matched.sigmoid()
        overlap = 2 * (inside * target).sum(dim=1) + 1
        dice = 1 - overlap / (inside.sum(dim=1) + target.sum(dim=1) + 1)
        return focal.sum(), dice.sum()


@torch.no_grad()
def whole_mask_costs(
    class_logits: Tensor,
    mask_logits: Tensor,
    labels: Sequence[Tensor],
    masks: Sequence[Tensor],
    weights: Weights,
) -> list[Tensor]:
    """Return the matching cost of every pair of query and object.

    Args:
        class_logits: (B, Q, K + 1), the last one "no object".
        mask_logits: (B, Q, h, w).
        labels: for each image (N,) int64, 0 ... K - 1.
        masks: for each image (N, 1, H, W) bool; they are compared at (h, w), by nearest pixels.
        weights: of the costs of class, focal loss and dice.
    Returns:
        For each image (Q, N).
    """
    probabilities = class_logits.softmax(dim=-1)
    logits = mask_logits.flatten(2)
    inside = logits.sigmoid()
    costs = []
    for b, (label, mask) in enumerate(zip(labels, masks, strict=True)):
        target = F.interpolate(mask.float(), mask_logits.shape[-2:], mode="nearest").flatten(1)
        # The cost is linear in the target: the loss of pixels inside less that of pixels outside.
        within = focal_loss(logits[b], torch.ones_like(logits[b]))
        outside = focal_loss(logits[b], torch.zeros_like(logits[b]))
        focal = (within - outside) @ target.T + outside.sum(dim=-1, keepdim=True)
        sizes = inside[b].sum(dim=-1)[:, None] + target.sum(dim=-1)
        dice = 1 - (2 * inside[b] @ target.T + 1) / (sizes + 1)
        costs.append(
            weights.mask * focal / target.shape[1]
            + weights.dice * dice
            - weights.classes * probabilities[b][:, label]
        )
    return costs


def focal_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Return the focal loss of each pixel, in which easy pixels count little.

    Args:
        logits: of any shape.
        target: of the same shape, 0 or 1, float.
    """
    probability = logits.sigmoid()
    wrong = probability + target - 2 * probability * target  # probability of the other outcome
    weight = ALPHA * target + (1 - ALPHA) * (1 - target)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return weight * wrong**GAMMA * cross_entropy
