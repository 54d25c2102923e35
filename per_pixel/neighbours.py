"""Train embeddings of pixels and classes by the nearest classes alone (ESSNet).

A pixel's score of a class is minus their scaled distance. The loss compares every pixel with its
own class and k others: neither scores nor gradients of all classes exist at once, so that memory
does not grow with the number of classes.

Source: Jain et al., "Scaling Semantic Segmentation Beyond 1K Classes on a Single GPU", ICCV 2021.

Shapes: N pixels, C classes, d their embeddings' width, k compared classes beside the own one.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from segcore.averages import mean_over_processes
from segcore.errors import UserError

from .losses import at_least_float32

OWN_CLASS = ("released", "strict")
NEGATIVES = ("nearest", "random")
# Largest block of distances, and of gathered embeddings: 16 million values, 64 MiB in float32.
BLOCK = 2**24
CLASSES_AT_ONCE = 4096


def check_neighbours(k: int, num_classes: int) -> None:
    """Raise UserError unless k classes beside the own one exist: 1 ... C - 1."""
    if not 1 <= k < num_classes:
        raise UserError(
            f"MODEL.ESSNET.NEIGHBOURS is {k}, but {num_classes} classes leave "
            f"{num_classes - 1} to compare a pixel's own class with: set it to 1 ... "
            f"{num_classes - 1}"
        )


def check_own_class(own_class: str) -> None:
    """Raise UserError unless :func:`own_and_nearest` knows ``own_class``."""
    if own_class not in OWN_CLASS:
        raise UserError(f"MODEL.ESSNET.OWN_CLASS is {own_class!r}: use {' or '.join(OWN_CLASS)}")


def check_negatives(negatives: str) -> None:
    """Raise UserError unless :func:`neighbour_cross_entropy` knows ``negatives``."""
    if negatives not in NEGATIVES:
        raise UserError(f"MODEL.ESSNET.NEGATIVES is {negatives!r}: use {' or '.join(NEGATIVES)}")


def squared_distances(pixels: Tensor, classes: Tensor) -> Tensor:
    """Return the squared Euclidean distances (N, C) of ``pixels`` (N, d) and ``classes`` (C, d)."""
    lengths = classes.square().sum(dim=1) + pixels.square().sum(dim=1, keepdim=True)
    return torch.addmm(lengths, pixels, classes.T, alpha=-2)


@torch.no_grad()
@torch.autocast("cuda", enabled=False)
@torch.autocast("cpu", enabled=False)
def nearest_classes(pixels: Tensor, classes: Tensor, k: int) -> Tensor:
    """Return the k nearest classes of every pixel, the nearest first.

    The search is exact and visits blocks of pixels and classes: a block holds at most ``BLOCK``
    distances, whatever N and C are. At equal distances any of the classes may come first.

    Args:
        pixels: (N, d).
        classes: (C, d).
        k: 1 ... C.
    Returns:
        (N, k) int64.
    """
    classes = at_least_float32(classes)
    pixels_at_once = max(1, BLOCK // min(len(classes), CLASSES_AT_ONCE))
    found = [_nearest(part, classes, k) for part in pixels.split(pixels_at_once)]
    return torch.cat(found)


def _nearest(pixels: Tensor, classes: Tensor, k: int) -> Tensor:
    """Return (n, k) of a part of the pixels, a part of the classes at a time."""
    pixels = pixels.to(classes.dtype)
    distances = ids = None
    for first in range(0, len(classes), CLASSES_AT_ONCE):
        part = classes[first : first + CLASSES_AT_ONCE]
        near = squared_distances(pixels, part).topk(min(k, len(part)), largest=False)
        new_distances, new_ids = near.values, near.indices + first
        if ids is not None:
            new_distances = torch.cat([distances, new_distances], dim=1)
            new_ids = torch.cat([ids, new_ids], dim=1)
        best = new_distances.topk(min(k, new_ids.shape[1]), largest=False)
        distances, ids = best.values, new_ids.gather(1, best.indices)
    return ids


def compared_classes(
    pixels: Tensor, classes: Tensor, targets: Tensor, k: int, own_class: str = "released"
) -> Tensor:
    """Return the classes that every pixel is compared with: its own one, and k near ones.

    Args:
        pixels: (N, d).
        classes: (C, d).
        targets, k, own_class: see :func:`own_and_nearest`.
    Returns:
        (N, k + 1) int64, the own class first, then the others, the nearest first.
    """
    return own_and_nearest(lambda n: nearest_classes(pixels, classes, n), targets, k, own_class)


def own_and_nearest(
    nearest: Callable[[int], Tensor], targets: Tensor, k: int, own_class: str = "released"
) -> Tensor:
    """Return the own class of every pixel and k near ones, by any search.

    Args:
        nearest: function from a number n to the n nearest classes of every pixel, (N, n) int64, the
            nearest first.
        targets: (N,), the own class of every pixel.
        k: 1 ... C - 1.
        own_class: what happens to the own class among the neighbours. "released", as in the
            published code: the class before it by id replaces it (0 remains), even if that is
            another neighbour. "strict": the neighbours are the k nearest other classes.
    Returns:
        (N, k + 1) int64, the own class first, then the others, the nearest first.

    Raises:
        UserError: ``own_class`` is neither of the two.
    """
    check_own_class(own_class)
    own = targets[:, None]
    if own_class == "released":
        neighbours = nearest(k)
        neighbours = torch.where(neighbours == own, (own - 1).clamp(min=0), neighbours)
    else:
        neighbours = nearest(k + 1)
        dropped = neighbours == own
        dropped[:, -1] |= ~dropped.any(dim=1)
        neighbours = neighbours[~dropped].view(-1, k)
    return torch.cat([own, neighbours], dim=1)


def random_classes(targets: Tensor, num_classes: int, k: int) -> Tensor:
    """Return the own class of every pixel and k random others: (N,) -> (N, k + 1) int64."""
    own = targets[:, None]
    others = torch.randint(num_classes - 1, (len(own), k), device=own.device)
    return torch.cat([own, others + (others >= own)], dim=1)


def distances_to(pixels: Tensor, classes: Tensor, ids: Tensor) -> Tensor:
    """Return the Euclidean distance of every pixel to some classes.

    Its gradient at distance 0 is 0.

    Args:
        pixels: (N, d).
        classes: (C, d).
        ids: (N, n), classes of every pixel.
    Returns:
        (N, n).
    """
    return torch.linalg.vector_norm(pixels[:, None] - F.embedding(ids, classes), dim=2)


def neighbour_cross_entropy(
    pixels: Tensor,
    classes: Tensor,
    targets: Tensor,
    *,
    k: int,
    scale: float = 20.0,
    own_class: str = "released",
    negatives: str = "nearest",
) -> Tensor:
    """Return the cross-entropy of every pixel's own class among the compared ones.

    Logits are ``-scale`` times the distances. The gathered embeddings (N, k + 1, d) exist in parts
    of ``BLOCK`` values and are computed again for the gradient. Computed in float32 at least.

    Args:
        pixels: (N, d).
        classes: (C, d).
        targets: (N,), classes 0 ... C - 1; other values are ignored.
        k: number of compared classes beside the own one.
        scale: of the distances, an inverse temperature.
        own_class: see :func:`compared_classes`.
        negatives: the compared classes are the "nearest" or "random" ones.
    Returns:
        The sum over the pixels that are not ignored, divided by their number averaged over the
        processes; 0 without any.

    Raises:
        UserError: k, ``own_class`` or ``negatives`` is out of range.
    """
    check_neighbours(k, len(classes))
    check_negatives(negatives)
    valid = (targets >= 0) & (targets < len(classes))
    pixels, targets = pixels[valid], targets[valid]
    if negatives == "nearest":
        ids = compared_classes(pixels, classes, targets, k, own_class)
    else:
        ids = random_classes(targets, len(classes), k)
    pixels_at_once = max(1, BLOCK // (ids.shape[1] * classes.shape[1]))
    total = classes.sum() * 0  # without a valid pixel the table still has a gradient
    for part, part_ids in zip(pixels.split(pixels_at_once), ids.split(pixels_at_once), strict=True):
        total = total + checkpoint(
            _sum_of_losses,
            *(part, classes, part_ids, scale),
            use_reentrant=False,
            preserve_rng_state=False,
        )
    return total / mean_over_processes(valid.sum().float()).clamp(min=1)


def _sum_of_losses(pixels: Tensor, classes: Tensor, ids: Tensor, scale: float) -> Tensor:
    """Return the sum of the cross-entropies, whose target is the first compared class."""
    pixels, classes = at_least_float32(pixels), at_least_float32(classes)
    logits = -scale * distances_to(pixels, classes, ids)
    return -logits.log_softmax(dim=1)[:, 0].sum()


def margin_loss(classes: Tensor, margin: float = 0.2) -> Tensor:
    """Return the mean over classes by how much their nearest other class is too near.

    Args:
        classes: (C, d).
        margin: a class at least this far from all others costs nothing.
    Returns:
        ``mean(max(0, margin - distance))``; 0 of a single class.
    """
    if len(classes) == 1:
        return classes.sum() * 0
    classes = at_least_float32(classes)
    own = torch.arange(len(classes), device=classes.device)
    others = compared_classes(classes, classes, own, 1, "strict")[:, 1:]
    return (margin - distances_to(classes, classes, others)).clamp(min=0).mean()
