"""Confusion matrices, and the scores that they give.

A matrix counts pixels, ``[prediction, ground truth]``, (K + 1, K + 1) int64. Index K is "ignored";
predictions never have it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

CHUNK = 1 << 24  # pixels counted at once: their cells take 8 bytes each


def empty_matrix(num_classes: int, device: torch.device | str = "cpu") -> Tensor:
    """Return a matrix of K classes without counts: (K + 1, K + 1) int64."""
    return torch.zeros(num_classes + 1, num_classes + 1, dtype=torch.int64, device=device)


def count_pairs(matrix: Tensor, prediction: Tensor, ground_truth: Tensor) -> None:
    """Add the pixels of a pair of label maps to a matrix, in place.

    With many classes a matrix is larger than a map, so no matrix is allocated for an image.

    Args:
        matrix: (K + 1, K + 1) int64.
        prediction, ground_truth: (H, W) integers in 0..K, on the device of the matrix.
    """
    one = torch.ones(1, dtype=torch.int64, device=matrix.device)
    pairs = zip(prediction.flatten().split(CHUNK), ground_truth.flatten().split(CHUNK), strict=True)
    for predicted, true in pairs:
        cells = (predicted.long() * len(matrix)).add_(true)
        matrix.view(-1).index_add_(0, cells, one.expand_as(cells))


def confusion_matrix(prediction: Tensor, ground_truth: Tensor, num_classes: int) -> Tensor:
    """Return the matrix (K + 1, K + 1) of one pair of label maps; see :func:`count_pairs`."""
    matrix = empty_matrix(num_classes, prediction.device)
    count_pairs(matrix, prediction, ground_truth)
    return matrix


def semantic_scores(matrix: Tensor, class_names: Sequence[str]) -> dict[str, float]:
    """Return scores in percent from a confusion matrix (K + 1, K + 1); nan without any pixel.

    The mean IoU has two conventions. ``mIoU`` averages over the classes in the ground truth, as
    Detectron2 does now. ``mIoU_union`` averages over the classes in the ground truth or a
    prediction, an older convention: a class that is only predicted counts as 0. ``mACC`` averages
    over the classes in the ground truth; ``fwIoU`` weights each IoU by its class's frequency.
    """
    matrix = matrix.double().cpu()
    hits = matrix.diagonal()[:-1]
    ground_truth, predicted = matrix[:-1, :-1].sum(0), matrix[:-1, :-1].sum(1)
    union = ground_truth + predicted - hits
    shown, any_shown = ground_truth > 0, union > 0
    nan = torch.tensor(float("nan"), dtype=torch.float64)
    iou = torch.where(shown, hits / union, nan)
    accuracy = torch.where(shown, hits / ground_truth, nan)
    scores = {
        "mIoU": iou[shown].mean(),
        "mIoU_union": (hits / union)[any_shown].mean(),
        "fwIoU": (iou * ground_truth)[shown].sum() / ground_truth.sum(),
        "mACC": accuracy[shown].mean(),
        "pACC": hits.sum() / ground_truth.sum(),
    }
    for i, name in enumerate(class_names):
        scores[f"IoU-{name}"], scores[f"ACC-{name}"] = iou[i], accuracy[i]
    return {key: 100 * value.item() for key, value in scores.items()}


def chance_miou(matrix: Tensor) -> float:
    """Return the mIoU in percent of labels drawn uniformly from all K classes.

    A class with the fraction p of the pixels then has the IoU (p / K) / (p + 1 / K - p / K), and
    the mean is over the classes in the ground truth. With K equal fractions it is 1 / (2K - 1).
    """
    ground_truth = matrix[:-1, :-1].sum(0).double().cpu()
    fraction, guessed = ground_truth[ground_truth > 0] / ground_truth.sum(), 1 / len(ground_truth)
    return 100 * (fraction * guessed / (fraction + guessed - fraction * guessed)).mean().item()


def only_prediction(matrix: Tensor) -> int | None:
    """Return the class of all predicted pixels, if the ground truth has several; else None."""
    predicted = matrix[:-1].sum(1).nonzero().flatten().tolist()
    shown = int((matrix[:-1, :-1].sum(0) > 0).sum())
    return predicted[0] if len(predicted) == 1 and shown > 1 else None


def seen_unseen_scores(
    scores: dict[str, float], class_names: Sequence[str], seen: Sequence[bool]
) -> dict[str, float]:
    """Return ``mIoU-seen``, ``mIoU-unseen`` (over classes in the ground truth) and their harmonic
    mean ``hIoU``, from the scores of :func:`semantic_scores`."""
    iou = torch.tensor([scores[f"IoU-{name}"] for name in class_names], dtype=torch.float64)
    flags = torch.tensor(seen)
    of_seen, of_unseen = iou[flags].nanmean().item(), iou[~flags].nanmean().item()
    total = of_seen + of_unseen
    harmonic = 2 * of_seen * of_unseen / total if total != 0 else 0.0
    return {"mIoU-seen": of_seen, "mIoU-unseen": of_unseen, "hIoU": harmonic}


def closed_miou(matrix: Tensor, seen: Sequence[bool]) -> float:
    """Return the mIoU in percent of the seen classes over their own pixels.

    Pixels of unseen classes are ignored, as published benchmarks of closed vocabularies do with
    classes outside of theirs: a model that cannot name an unseen class gives its pixels to seen
    ones, which lowers their IoU in ``mIoU-seen`` however well they are segmented.

    Args:
        matrix: (K + 1, K + 1).
        seen: of the K classes.
    """
    own = matrix.clone()
    own[:, :-1][:, ~torch.tensor(seen, device=matrix.device)] = 0
    return semantic_scores(own, ())["mIoU"]


def boundary_differences(labels: Tensor) -> Tensor:
    """Return a label map minus its erosion, the input of Detectron2's boundary scores.

    The erosion is a minimum over a square of 2 % of the diagonal to each side (1 pixel at least),
    with zeros around the map. As in Detectron2, it is that of the label values: the result is a
    difference of labels, not a label on a ring.

    Args:
        labels: (H, W) integers below 256.

    Returns:
        (H, W) int64.
    """
    height, width = labels.shape
    reach = max(1, round(0.02 * (height**2 + width**2) ** 0.5))
    negated = F.pad(-labels[None].float(), [reach] * 4)
    window = 2 * reach + 1
    rows = F.max_pool2d(negated, (1, window), stride=1)
    eroded = -F.max_pool2d(rows, (window, 1), stride=1)[0]
    return labels.long() - eroded.long()


def boundary_scores(
    matrix: Tensor, scores: dict[str, float], class_names: Sequence[str]
) -> dict[str, float]:
    """Return ``BoundaryIoU-<class>`` and ``min(IoU, B-Iou)-<class>`` in percent.

    Args:
        matrix: (K + 1, K + 1), of label maps after :func:`boundary_differences`.
        scores: those of :func:`semantic_scores`.
    """
    matrix = matrix.double().cpu()
    hits = matrix.diagonal()[:-1]
    union = matrix[:-1, :-1].sum(0) + matrix[:-1, :-1].sum(1) - hits
    result = {}
    for name, value in zip(class_names, (100 * hits / union).tolist(), strict=True):
        result[f"BoundaryIoU-{name}"] = value
        # A class without a score keeps none: nan comes first in Python's min.
        result[f"min(IoU, B-Iou)-{name}"] = min(scores[f"IoU-{name}"], value)
    return result
