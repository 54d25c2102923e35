"""Training losses of CAT-Seg, and the choice of candidate classes.

Shapes: B images, T classes, K candidate classes, (H, W) pixels, P prompts a class, C joint
embedding width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from segcore.averages import mean_over_processes


def mask_loss(logits: Tensor, labels: Tensor, ignore: int, mask_ignored: bool = False) -> Tensor:
    """Return the binary cross-entropy of every class at every pixel (CAT-Seg, section 4).

    Written as mean(softplus(x)) minus the logits at the labels, so no one-hot target is made.

    Args:
        logits: (B, T, H, W).
        labels: (B, H, W) int64, 0 ... T - 1 or ``ignore``.
        ignore: label of pixels without a class. In the published loss they are negatives of every
            class.
        mask_ignored: leave them out of the loss instead.
    """
    valid = labels != ignore
    at_label = logits.gather(1, labels.where(valid, 0)[:, None])[:, 0]
    if mask_ignored:
        loss = (F.softplus(logits).sum(dim=1) - at_label) * valid
        return loss.sum() / (pixels_per_process(valid) * logits.shape[1])
    return F.softplus(logits).mean() - (at_label * valid).sum() / logits.numel()


def cost_loss(cost: Tensor, labels: Tensor, ignore: int, scale: Tensor) -> Tensor:
    """Return the cross-entropy of every pixel over the classes, on the cost volume.

    It trains encoders from scratch to align pixels and class names, before the aggregation.

    Args:
        cost: cosine similarities (B, T, P, h, w).
        labels: (B, H, W) int64, 0 ... T - 1 or ``ignore``.
        scale: factor of the cosine similarities, a scalar.
    """
    logits = F.interpolate(
        scale * cost.mean(dim=2), labels.shape[-2:], mode="bilinear", align_corners=False
    )
    loss = F.cross_entropy(logits, labels, ignore_index=ignore, reduction="sum")
    return loss / pixels_per_process(labels != ignore)


def pixels_per_process(valid: Tensor) -> Tensor:
    """Return how many of ``valid`` (bool) are true, averaged over the processes; at least 1."""
    return mean_over_processes(valid.sum().float()).clamp(min=1)


def candidate_classes(labels: Tensor, text: Tensor, allowed: Tensor, number: int) -> Tensor:
    """Choose the candidate classes of each image.

    They are all present classes and, as hard negatives, those with the text embeddings most similar
    to a present one's for half of the rest; the others are random.

    Args:
        labels: (B, H, W) int64; values outside 0 ... T - 1 are no class.
        text: (T, C) unit-norm embeddings.
        allowed: (T,) bool, classes that may be chosen.
        number: K; at most the number of allowed classes.
    Returns:
        (B, K) int64, ids ascending.
    """
    classes = len(text)
    number = min(number, int(allowed.sum()))
    similarity = text.detach() @ text.detach().T
    chosen = []
    for label in labels:
        present = torch.bincount(label[(label >= 0) & (label < classes)], minlength=classes) > 0
        present &= allowed
        nearest = similarity[:, present].amax(dim=1) if present.any() else similarity[:, 0]
        # Three tiers: present, similar, random. The tier is the integer part of a class's score.
        score = torch.rand(classes, device=text.device).masked_fill(~allowed, -1.0)
        others = (nearest + 2).masked_fill(~allowed | present, -1.0)
        similar = others.topk(max(number - int(present.sum()), 0) // 2).indices
        score[similar] += 1.0 * allowed[similar]
        score[present] += 2.0
        chosen.append(score.topk(number).indices.sort().values)
    return torch.stack(chosen)


def relabel(labels: Tensor, classes: Tensor, num_classes: int, ignore: int) -> Tensor:
    """Map labels to indices in each image's list of classes; others become ``ignore``.

    labels (B, H, W), classes (B, K) ids of 0 ... num_classes - 1 -> (B, H, W).
    """
    table = labels.new_full((len(labels), num_classes + 1), ignore)
    indices = torch.arange(classes.shape[1], device=labels.device).expand_as(classes)
    table.scatter_(1, classes, indices)
    index = labels.where((labels >= 0) & (labels < num_classes), num_classes)
    return table.gather(1, index.flatten(1)).view_as(labels)
