"""Find the nearest classes of embeddings: exactly, by an index, or in clusters of classes.

The exact search visits blocks of embeddings and classes, on any device, so that its memory depends
on neither number. :mod:`per_pixel.faiss_index` has the searches of the library faiss.

Shapes: N embeddings (of pixels, or of classes), C classes, d their width, k nearest classes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from segcore.errors import UserError
from segcore.inference.precision import at_least_float32

from .faiss_index import FaissIndex, check_faiss

# A function from embeddings (N, d) and k to the ids of their nearest classes (N, k), the nearest
# first.
Nearest = Callable[[Tensor, int], Tensor]

SEARCHES = ("exact", "faiss", "clusters")
# Values of the largest block, of distances or of gathered embeddings: 16 MiB in float32.
BLOCK = 2**22
CLASSES_AT_ONCE = 4096


@dataclass(frozen=True)
class Search:
    """How nearest classes are found.

    Attributes:
        kind: "exact"; "faiss", exact by that library's flat index; or "clusters", by its inverted
            file: the classes of the nearest clusters alone are visited.
        clusters: number of clusters; 0: about the square root of C.
        probes: number of clusters that are visited.
        key: of the config, for error messages.
    """

    kind: str = "exact"
    clusters: int = 0
    probes: int = 4
    key: str = "MODEL.ESSNET.SEARCH"

    def __post_init__(self) -> None:
        """
        Raises:
            UserError: there is no such search, faiss is not installed, or a number is out of range.
        """
        if self.kind not in SEARCHES:
            raise UserError(f"{self.key} is {self.kind!r}: use {', '.join(SEARCHES)}")
        if self.clusters < 0:
            raise UserError(
                f"MODEL.ESSNET.CLUSTERS is {self.clusters}: use a number of clusters, or 0 for the "
                "square root of the number of classes"
            )
        if self.probes < 1:
            raise UserError(f"MODEL.ESSNET.PROBES is {self.probes}: visit 1 cluster or more")
        if self.kind != "exact":
            check_faiss(self.key, self.kind)

    def check_classes(self, num_classes: int) -> None:
        """Raise UserError if there are more clusters than classes."""
        if self.clusters > num_classes:
            raise UserError(
                f"MODEL.ESSNET.CLUSTERS is {self.clusters}, but there are {num_classes} classes: "
                f"use {num_classes} at most, or 0 for its square root"
            )

    def among(self, classes: Tensor, normalise: bool = False) -> Nearest:
        """Return the function that finds the nearest of ``classes`` (C, d), whose embeddings are
        these rows, scaled to length 1 if ``normalise``."""
        classes = classes.detach()
        if self.kind == "exact":
            return ExactSearch(classes, normalise)
        clusters = None
        if self.kind == "clusters":
            clusters = self.clusters or max(1, round(len(classes) ** 0.5))
        index = FaissIndex(class_embeddings(classes, normalise), clusters, self.probes)
        return IndexSearch(classes, normalise, index)


@dataclass(frozen=True)
class ExactSearch:
    """Search in blocks: a function of type ``Nearest``; attributes as of :meth:`Search.among`."""

    classes: Tensor
    normalise: bool

    def __call__(self, embeddings: Tensor, k: int) -> Tensor:
        return nearest_classes(embeddings, self.classes, k, self.normalise)


@dataclass(frozen=True)
class IndexSearch(ExactSearch):
    """Search by an index, and exactly where the visited clusters hold less than k classes."""

    index: FaissIndex

    def __call__(self, embeddings: Tensor, k: int) -> Tensor:
        ids = self.index.nearest(embeddings, k)
        lacking = (ids < 0).any(dim=1)
        if lacking.any():
            ids[lacking] = super().__call__(embeddings.detach()[lacking], k)
        return ids


def class_embeddings(table: Tensor, normalise: bool) -> Tensor:
    """Return the embeddings of the classes of a table (C, d), of length 1 if ``normalise``."""
    return F.normalize(at_least_float32(table), dim=1) if normalise else table


def squared_distances(pixels: Tensor, classes: Tensor) -> Tensor:
    """Return the squared Euclidean distances (N, C) of ``pixels`` (N, d) and ``classes`` (C, d)."""
    lengths = classes.square().sum(dim=1) + pixels.square().sum(dim=1, keepdim=True)
    return lengths.addmm_(pixels, classes.T, alpha=-2)


@torch.no_grad()
@torch.autocast("cuda", enabled=False)
@torch.autocast("cpu", enabled=False)
def nearest_classes(pixels: Tensor, classes: Tensor, k: int, normalise: bool = False) -> Tensor:
    """Return the k nearest classes of every pixel, the nearest first.

    The search is exact and visits blocks of pixels and classes: a block holds at most
    ``BLOCK`` distances, whatever N and C are. At equal distances any of the classes may come first.

    Args:
        pixels: (N, d).
        classes: (C, d).
        k: 1 ... C.
        normalise: embeddings of classes are their rows scaled to length 1.
    Returns:
        (N, k) int64.
    """
    classes = at_least_float32(classes)
    at_once = max(1, BLOCK // min(len(classes), CLASSES_AT_ONCE))
    # The memory of all blocks: a new one for each costs more time than its distances.
    block = classes.new_empty(min(at_once, len(pixels)) * min(len(classes), CLASSES_AT_ONCE))
    parts = pixels.split(at_once)
    return torch.cat([_nearest(part, classes, k, normalise, block) for part in parts])


def _nearest(pixels: Tensor, classes: Tensor, k: int, normalise: bool, block: Tensor) -> Tensor:
    """Return (n, k) of a part of the pixels, a part of the classes at a time.

    Args:
        pixels, classes, k, normalise: see :func:`nearest_classes`.
        block: room for the distances to a part of the classes, without the pixel's squared length,
            which does not change their order.
    """
    pixels = pixels.to(classes.dtype)
    distances = ids = None
    for first in range(0, len(classes), CLASSES_AT_ONCE):
        part = class_embeddings(classes[first : first + CLASSES_AT_ONCE], normalise)
        found = block[: len(pixels) * len(part)].view(len(pixels), len(part))
        torch.addmm(part.square().sum(dim=1), pixels, part.T, alpha=-2, out=found)
        near, indices = _smallest(found, k)
        indices += first
        if ids is None:
            distances, ids = near, indices
        else:
            distances, order = _smallest(torch.cat([distances, near], dim=1), k)
            ids = torch.cat([ids, indices], dim=1).gather(1, order)
    return ids


def _smallest(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k smallest values of every row, or all of fewer, ascending, and their columns."""
    if k == 1:  # much faster than the general search
        return tuple(values.min(dim=1, keepdim=True))
    return tuple(values.topk(min(k, values.shape[1]), largest=False))
