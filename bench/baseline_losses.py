"""A baseline of Mask2Former's losses, written as in its paper: layer by layer, image by image.

Masks are floats of the size of the image, and the cross-entropy of the matching is computed for
"inside" and for "outside". Source: Cheng et al., "Masked-attention Mask Transformer for Universal
Image Segmentation", CVPR 2022, section 3.3.

Shapes: B images, Q queries, C classes, N objects of an image, M pairs, P points, (h, w) the map
of the mask logits, (H, W) the image.
"""

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from mask2former_rankseg.criterion import Criterion


class BaselineCriterion(nn.Module):
    """Match and compare the predictions one by one."""

    def __init__(self, criterion: Criterion) -> None:
        super().__init__()
        self.criterion = criterion

    def forward(
        self, predictions: list[tuple[Tensor, Tensor]], labels: list[Tensor], masks: list[Tensor]
    ) -> dict[str, Tensor]:
        """Class logits (B, Q, C + 1) and mask logits (B, Q, h, w), labels (N,), masks (N, H, W)."""
        number = max(sum(map(len, labels)), 1)
        masks = [mask.float() for mask in masks]
        weights, losses = self.criterion.weights, {}
        for i, (classes, mask_logits) in enumerate(predictions):
            pairs = self._match(classes, mask_logits, labels, masks)
            suffix = "" if i == len(predictions) - 1 else f"_{i}"
            loss_mask, loss_dice = self._mask_losses(mask_logits, masks, pairs)
            losses[f"loss_ce{suffix}"] = weights.classes * self._class_loss(classes, labels, pairs)
            losses[f"loss_mask{suffix}"] = weights.mask * loss_mask / number
            losses[f"loss_dice{suffix}"] = weights.dice * loss_dice / number
        return losses

    @torch.no_grad()
    def _match(
        self, classes: Tensor, mask_logits: Tensor, labels: list[Tensor], masks: list[Tensor]
    ) -> list[tuple[Tensor, Tensor]]:
        """Return the matched pairs of minimum cost of every image."""
        weights, found = self.criterion.weights, []
        for class_logits, logits, label, mask in zip(
            classes, mask_logits, labels, masks, strict=True
        ):
            points = self.criterion.points.uniform(1, logits.device)
            target = at_points(mask[:, None], points.expand(len(mask), -1, -1))
            x = at_points(logits[:, None], points.expand(len(logits), -1, -1))
            inside = F.binary_cross_entropy_with_logits(x, torch.ones_like(x), reduction="none")
            outside = F.binary_cross_entropy_with_logits(x, torch.zeros_like(x), reduction="none")
            cross_entropy = (inside @ target.T + outside @ (1 - target).T) / x.shape[1]
            x = x.sigmoid()
            sizes = x.sum(dim=-1)[:, None] + target.sum(dim=-1)
            cost = (
                weights.mask * cross_entropy
                + weights.dice * (1 - (2 * x @ target.T + 1) / (sizes + 1))
                - weights.classes * class_logits.softmax(dim=-1)[:, label]
            )
            pairs = linear_sum_assignment(cost.cpu())
            found.append(tuple(torch.as_tensor(index, device=cost.device) for index in pairs))
        return found

    def _class_loss(self, logits: Tensor, labels: list[Tensor], pairs: list) -> Tensor:
        no_object = logits.shape[-1] - 1
        target = torch.full(logits.shape[:2], no_object, device=logits.device)
        for row, label, (queries, objects) in zip(target, labels, pairs, strict=True):
            row[queries] = label[objects]
        weight = logits.new_ones(no_object + 1)
        weight[-1] = self.criterion.no_object_weight
        return F.cross_entropy(logits.transpose(1, 2), target, weight)

    def _mask_losses(
        self, mask_logits: Tensor, masks: list[Tensor], pairs: list
    ) -> tuple[Tensor, Tensor]:
        """Return the mask losses, summed over the pairs."""
        logits = [row[queries] for row, (queries, _) in zip(mask_logits, pairs, strict=True)]
        target = [mask[objects] for mask, (_, objects) in zip(masks, pairs, strict=True)]
        logits, target = torch.cat(logits)[:, None], torch.cat(target)[:, None]
        points = self.criterion.points.uncertain(logits[:, 0].detach())
        x, target = at_points(logits, points), at_points(target, points)
        cross_entropy = F.binary_cross_entropy_with_logits(x, target, reduction="none")
        x = x.sigmoid()
        dice = 1 - (2 * (x * target).sum(dim=1) + 1) / (x.sum(dim=1) + target.sum(dim=1) + 1)
        return cross_entropy.mean(dim=1).sum(), dice.sum()


def at_points(maps: Tensor, points: Tensor) -> Tensor:
    """Sample bilinearly: (N, 1, h, w), (N, P, 2) -> (N, P)."""
    return F.grid_sample(maps, 2 * points[:, None] - 1, align_corners=False)[:, 0, 0]
