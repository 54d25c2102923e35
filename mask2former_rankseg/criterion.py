"""Training losses of Mask2Former (CVPR 2022) with RankSeg (ECCV 2022).

Shapes: B images or clips, Q queries, C classes, kappa selected classes, K classes of the class
logits (kappa with RankSeg, else C), T frames (1 for an image), N objects of one image, M matched
pairs of the batch, P points.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segcore.averages import mean_over_processes
from segcore.rankseg.labels import regions_to_ranks
from segcore.rankseg.losses import asymmetric_loss
from segcore.rankseg.selection import presence

from .matcher import Weights, assign, matching_costs
from .points import RandomPoints, sample_maps, sample_masks

Pairs = list[tuple[Tensor, Tensor]]  # for each image: queries (M,) and their objects (M,)


class Criterion(nn.Module):
    """Matches the predictions of each decoder layer with the objects and computes the losses.

    Distributed: sums over masks are divided by the number of objects averaged over the processes,
    so that the gradients are those of one process with the whole batch. The cross-entropy of the
    classes is, as published, the weighted mean over the queries of each process; it equals that of
    one process where all processes match equally many objects.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        weights: Weights | None = None,
        no_object_weight: float = 0.1,
        multilabel_weight: float = 10.0,
        gammas: tuple[float, float] = (2.0, 0.0),
        points: RandomPoints | None = None,
    ) -> None:
        """
        Args:
            num_classes: C.
            weights: of matching costs and losses; None: the published ones.
            no_object_weight: weight of unmatched queries in the cross-entropy.
            multilabel_weight: weight of the multi-label loss.
            gammas: its focusing exponents of absent and of present classes.
            points: samples the points at which masks are compared; None: the published number.
        """
        super().__init__()
        self.num_classes = num_classes
        self.weights = weights or Weights()
        self.no_object_weight = no_object_weight
        self.multilabel_weight = multilabel_weight
        self.gammas = gammas
        self.points = points or RandomPoints()

    def forward(
        self,
        predictions: Sequence[tuple[Tensor, Tensor]],
        labels: Sequence[Tensor],
        masks: Sequence[Tensor],
        *,
        selected: Tensor | None = None,
        category_logits: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """
        Args:
            predictions: class logits (B, Q, K + 1), the last one "no object", and mask logits
                (B, Q, h, w) or (B, Q, T, h, w), in the order of the decoder: that of the learnable
                query features first, the final one last. The final one alone: no deep supervision.
            labels: for each image the classes of its objects, (N,) int64, 0 ... C - 1.
            masks: for each image (N, H, W) or (N, T, H, W) bool, of the size of the padded input.
            selected: (B, kappa), the classes of the columns of the class logits; None: all
                classes. Objects of other classes have no loss.
            category_logits: (B, C) of the multi-label head, trained with the classes of all
                objects; None without such a head.
        Returns:
            Weighted scalars: ``loss_ce``, ``loss_mask`` and ``loss_dice`` of the final
            prediction, the same with the suffix ``_0``, ``_1``, ... of the earlier ones, and
            ``loss_ml``.
        """
        with torch.autocast(predictions[0][0].device.type, enabled=False):
            losses = {}
            if category_logits is not None:
                present = presence(labels, self.num_classes)
                negative, positive = self.gammas
                loss = asymmetric_loss(
                    category_logits, present, gamma_neg=negative, gamma_pos=positive
                )
                losses["loss_ml"] = self.multilabel_weight * loss
            if selected is not None:
                labels, kept = regions_to_ranks(labels, selected, self.num_classes)
                masks = [mask[keep] for mask, keep in zip(masks, kept, strict=True)]
            predictions = [(classes.float(), _with_frames(m, 5)) for classes, m in predictions]
            masks = [_with_frames(mask, 4) for mask in masks]
            num_objects = objects_per_process(labels)
            for i, pairs in enumerate(self.match(predictions, labels, masks)):
                classes, mask_logits = predictions[i]
                suffix = "" if i == len(predictions) - 1 else f"_{i}"
                loss_mask, loss_dice = self.mask_losses(mask_logits, masks, pairs)
                loss_ce = self.class_loss(classes, labels, pairs)
                losses[f"loss_ce{suffix}"] = self.weights.classes * loss_ce
                losses[f"loss_mask{suffix}"] = self.weights.mask * loss_mask / num_objects
                losses[f"loss_dice{suffix}"] = self.weights.dice * loss_dice / num_objects
            return losses

    @torch.no_grad()
    def match(
        self,
        predictions: Sequence[tuple[Tensor, Tensor]],
        labels: Sequence[Tensor],
        masks: Sequence[Tensor],
    ) -> list[Pairs]:
        """Match each prediction with the objects; masks and mask logits have a frame axis."""
        costs = []
        for classes, mask_logits in predictions:
            costs += self.costs(classes, mask_logits.float(), labels, masks)
        pairs = assign(costs)
        batch = len(labels)
        return [pairs[i : i + batch] for i in range(0, len(pairs), batch)]

    def costs(
        self,
        classes: Tensor,
        mask_logits: Tensor,
        labels: Sequence[Tensor],
        masks: Sequence[Tensor],
    ) -> list[Tensor]:
        """Return the matching costs (Q, N) of each image for one prediction.

        Args:
            classes: class logits (B, Q, K + 1).
            mask_logits: (B, Q, T, h, w).
            labels: for each image (N,) int64, 0 ... K - 1.
            masks: for each image (N, T, H, W) bool.
        """
        points = self.points.uniform(len(classes), classes.device)
        return matching_costs(classes, mask_logits, labels, masks, points, self.weights)

    def class_loss(self, logits: Tensor, labels: Sequence[Tensor], pairs: Pairs) -> Tensor:
        """Weighted cross-entropy of logits (B, Q, K + 1); unmatched queries have "no object"."""
        no_object = logits.shape[-1] - 1
        target = logits.new_full(logits.shape[:2], no_object, dtype=torch.int64)
        for row, label, (queries, objects) in zip(target, labels, pairs, strict=True):
            row[queries] = label[objects]
        weight = logits.new_ones(no_object + 1)
        weight[no_object] = self.no_object_weight
        return F.cross_entropy(logits.flatten(0, 1), target.flatten(), weight)

    def mask_losses(
        self, logits: Tensor, masks: Sequence[Tensor], pairs: Pairs
    ) -> tuple[Tensor, Tensor]:
        """Binary cross-entropy and dice loss, each summed over the matched masks of all frames.

        Args:
            logits: (B, Q, T, h, w).
            masks: for each image (N, T, H, W) bool.
            pairs: of this prediction.
        """
        matched = [row[queries] for row, (queries, _) in zip(logits, pairs, strict=True)]
        matched = torch.cat(matched).flatten(0, 1).float()  # (M T, h, w)
        if not len(matched):
            zero = matched.sum()  # with a graph: distributed training waits for all gradients
            return zero, zero
        points = self.points.uncertain(matched)
        at_points = sample_maps(matched[:, None], points)[:, 0]
        with torch.no_grad():
            target = sample_matched(masks, pairs, points)
        cross_entropy = F.binary_cross_entropy_with_logits(at_points, target, reduction="none")
        inside = at_points.sigmoid()
        overlap = 2 * (inside * target).sum(dim=1) + 1
        dice = 1 - overlap / (inside.sum(dim=1) + target.sum(dim=1) + 1)
        return cross_entropy.mean(dim=1).sum(), dice.sum()


def sample_matched(masks: Sequence[Tensor], pairs: Pairs, points: Tensor) -> Tensor:
    """Sample the masks of the matched objects at points.

    Args:
        masks: for each image (N, T, H, W) bool.
        pairs: of one prediction.
        points: (M T, P, 2), in the order of the pairs, for each the frames.
    Returns:
        (M T, P) float32.
    """
    chosen = [mask[objects].flatten(0, 1) for mask, (_, objects) in zip(masks, pairs, strict=True)]
    parts = points.split([len(part) for part in chosen])
    return torch.cat([sample_masks(*pair) for pair in zip(chosen, parts, strict=True)])


def objects_per_process(labels: Sequence[Tensor]) -> Tensor:
    """Return the number of objects, averaged over the processes; at least 1."""
    number = torch.tensor(float(sum(map(len, labels))), device=labels[0].device)
    return mean_over_processes(number).clamp(min=1)


def _with_frames(masks: Tensor, ndim: int) -> Tensor:
    """Insert an axis of one frame before the last two, unless masks of clips have it already."""
    return masks if masks.ndim == ndim else masks.unsqueeze(-3)
