"""Train embeddings of pixels and classes by the nearest classes alone (ESSNet).

A pixel's score of a class is minus their scaled distance. The loss compares every pixel with its
own class and k others. Neither scores of all classes exist at once, nor tensors of the size of the
table with a gradient but this gradient itself: memory does not grow with the number of classes.

Source: Jain et al., "Scaling Semantic Segmentation Beyond 1K Classes on a Single GPU", ICCV 2021.

Shapes: N pixels, C classes, d their embeddings' width, k compared classes beside the own one.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from segcore.averages import mean_over_processes
from segcore.errors import UserError
from segcore.inference.precision import at_least_float32

from . import search
from .search import ExactSearch, Nearest, class_embeddings

OWN_CLASS = ("released", "strict")
NEGATIVES = ("nearest", "random")


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


def used_rows(table: Tensor, ids: Tensor, normalise: bool = False) -> tuple[Tensor, Tensor]:
    """Return the rows of a table that occur in ``ids``, and the ids among these rows.

    Losses that go on with these rows have tensors of their size, whatever C is. The gradient of the
    table is a dense one, because its momentum and weight decay concern all rows, and is made in one
    step from that of the rows.

    Args:
        table: (C, d).
        ids: (N, n), classes.
        normalise: rows of length 1.
    Returns:
        (U, d) in float32 at least, and (N, n) int64, values 0 ... U - 1.
    """
    used = torch.zeros(len(table), dtype=torch.bool, device=table.device)
    used[ids] = True
    rows = at_least_float32(table.index_select(0, used.nonzero()[:, 0]))
    return class_embeddings(rows, normalise), (used.cumsum(dim=0) - 1)[ids]


def sum_in_parts(
    function: Callable[..., Tensor], rows: Tensor, ids: Tensor, *others: Tensor
) -> Tensor:
    """Return the sum of a function over parts of its arguments, computed again for the gradient.

    Args:
        function: of the rows (U, d), of a part of the ids (n, m) and of the same part of the others
            to a number.
        rows: (U, d).
        ids: (N, m), rows.
        others: (N, ...).
    """
    at_once = max(1, search.BLOCK // (ids.shape[1] * rows.shape[1]))
    total = rows.sum() * 0  # without ids the rows still have a gradient
    for parts in zip(*(tensor.split(at_once) for tensor in (ids, *others)), strict=True):
        total = total + checkpoint(
            function, rows, *parts, use_reentrant=False, preserve_rng_state=False
        )
    return total


def neighbour_cross_entropy(
    pixels: Tensor,
    classes: Tensor,
    targets: Tensor,
    *,
    k: int,
    scale: float = 20.0,
    own_class: str = "released",
    negatives: str = "nearest",
    share: int = 1,
    normalise: bool = False,
    nearest: Nearest | None = None,
) -> Tensor:
    """Return the cross-entropy of every pixel's own class among the compared ones.

    Logits are ``-scale`` times the distances, computed in float32 at least.

    Args:
        pixels: (N, d).
        classes: (C, d).
        targets: (N,), classes 0 ... C - 1; other values are ignored.
        k: number of compared classes beside the own one.
        scale: of the distances, an inverse temperature.
        own_class: see :func:`own_and_nearest`.
        negatives: the compared classes are the "nearest" or "random" ones.
        share: number of consecutive pixels, without the ignored ones, that are compared with the
            nearest classes of the first of them: a search for a quarter of the pixels is 4.
        normalise: embeddings of classes are their rows scaled to length 1.
        nearest: the search; None: exactly among all classes.
    Returns:
        The sum over the pixels that are not ignored, divided by their number averaged over the
        processes; 0 without any.

    Raises:
        UserError: k, ``own_class`` or ``negatives`` is out of range.
    """
    check_neighbours(k, len(classes))
    check_negatives(negatives)
    valid = (targets >= 0) & (targets < len(classes))
    pixels, targets = at_least_float32(pixels[valid]), targets[valid]
    if negatives == "random":
        ids = random_classes(targets, len(classes), k)
    else:
        nearest = nearest or ExactSearch(classes.detach(), normalise)

        def shared(number: int) -> Tensor:
            found = nearest(pixels[::share], number)
            return found.repeat_interleave(share, dim=0)[: len(pixels)]

        ids = own_and_nearest(shared, targets, k, own_class)

    def sum_of_losses(rows: Tensor, ids: Tensor, pixels: Tensor) -> Tensor:
        logits = -scale * distances_to(pixels, rows, ids)
        return -logits.log_softmax(dim=1)[:, 0].sum()

    total = sum_in_parts(sum_of_losses, *used_rows(classes, ids, normalise), pixels)
    return total / mean_over_processes(valid.sum().float()).clamp(min=1)


def margin_loss(
    classes: Tensor,
    margin: float = 0.2,
    *,
    normalise: bool = False,
    nearest: Nearest | None = None,
) -> Tensor:
    """Return the mean over classes by how much their nearest other class is too near.

    Args:
        classes: (C, d).
        margin: a class at least this far from all others costs nothing.
        normalise, nearest: see :func:`neighbour_cross_entropy`.
    Returns:
        ``mean(max(0, margin - distance))``; 0 of a single class.
    """
    pairs = too_near(classes, margin, normalise, nearest)

    def sum_of_losses(rows: Tensor, pairs: Tensor) -> Tensor:
        first, second = (F.embedding(ids, rows) for ids in pairs.unbind(dim=1))
        return (margin - torch.linalg.vector_norm(first - second, dim=1)).sum()

    return sum_in_parts(sum_of_losses, *used_rows(classes, pairs, normalise)) / len(classes)


@torch.no_grad()
def too_near(
    classes: Tensor, margin: float, normalise: bool = False, nearest: Nearest | None = None
) -> Tensor:
    """Return the classes whose nearest other class is within the margin, and that one: (M, 2)
    int64; arguments as of :func:`margin_loss`."""
    every = torch.arange(len(classes), device=classes.device)
    if len(classes) == 1:
        return every.new_empty(0, 2)
    nearest, found = nearest or ExactSearch(classes, normalise), []
    for own in every.split(search.CLASSES_AT_ONCE):
        embeddings = class_embeddings(classes[own], normalise)
        pairs = own_and_nearest(partial(nearest, embeddings), own, 1, "strict")
        others = class_embeddings(classes[pairs[:, 1]], normalise)
        found.append(pairs[torch.linalg.vector_norm(embeddings - others, dim=1) < margin])
    return torch.cat(found)
