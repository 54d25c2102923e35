"""The loss of pixels, and statistics of training batches that are logged beside it.

Shapes: B images, K classes, n columns of scores (K, or kappa selected classes), (h, w) the map of
the scores, (H, W) the labels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from segcore.averages import mean_over_processes
from segcore.errors import UserError
from segcore.inference.precision import at_least_float32
from segcore.rankseg.labels import pixels_to_ranks, rank_table
from segcore.rankseg.selection import presence

IGNORED = -1
MEANS = ("all", "valid")


def pixel_loss(
    scores: Tensor,
    targets: Tensor,
    *,
    pixels: str = "all",
    align_corners: bool = False,
    sampled: float = 1.0,
) -> Tensor:
    """Return the mean cross-entropy of pixels.

    Args:
        scores: (B, n, h, w) logits, which are resized to the targets.
        targets: (B, H, W) int64, columns of the scores; values outside 0 ... n - 1 are ignored.
        pixels: see :func:`number_of_pixels`.
        align_corners: resize with aligned corners.
        sampled: share of the pixels of every image, drawn at random, that the mean is estimated
            from; its expectation is the mean over all. Time and memory shrink with it, since
            scores are resized at these pixels alone.
    """
    maps, targets = at_pixels(scores, targets, sampled, align_corners)
    valid = (targets >= 0) & (targets < scores.shape[1])
    targets = targets.where(valid, IGNORED)
    total = F.cross_entropy(maps, targets, ignore_index=IGNORED, reduction="sum")
    return total / number_of_pixels(valid, pixels)


def resize(maps: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    """Resize maps (B, n, h, w) bilinearly to (B, n, *size), in float32 at least."""
    maps = at_least_float32(maps)
    return F.interpolate(maps, tuple(size), mode="bilinear", align_corners=align_corners)


def at_pixels(
    maps: Tensor, targets: Tensor, sampled: float, align_corners: bool
) -> tuple[Tensor, Tensor]:
    """Return maps (B, n, h, w) resized to the targets (B, H, W), and these; or both at a random
    share of the pixels, see :func:`sample`."""
    if sampled < 1:
        return sample(maps, targets, sampled, align_corners)
    return resize(maps, targets.shape[-2:], align_corners), targets


def sample(
    maps: Tensor, targets: Tensor, share: float, align_corners: bool
) -> tuple[Tensor, Tensor]:
    """Return a random share of the pixels of every image, at least one, without repetitions.

    Args:
        maps: (B, n, h, w), resized bilinearly, in float32 at least.
        targets: (B, H, W).
        share: of the H * W pixels, above 0.
        align_corners: resize with aligned corners.
    Returns:
        The maps (B, n, 1, N) and the targets (B, 1, N) of N pixels.
    """
    height, width = targets.shape[-2:]
    count = max(1, round(share * height * width))
    order = torch.rand(len(targets), height * width, device=targets.device)
    chosen = order.topk(count, dim=1).indices[:, None]  # (B, 1, N)
    rows, columns = chosen // width, chosen % width
    points = [
        _positions(columns, width, align_corners),
        _positions(rows, height, align_corners),
    ]
    maps = at_least_float32(maps)
    grid = torch.stack(points, dim=-1).to(maps.dtype)
    maps = F.grid_sample(maps, grid, padding_mode="border", align_corners=align_corners)
    return maps, targets.flatten(1).gather(1, chosen[:, 0])[:, None]


def _positions(index: Tensor, length: int, align_corners: bool) -> Tensor:
    """Return the positions of pixels along an axis in -1 ... 1, as ``grid_sample`` counts them."""
    if align_corners:
        return 2 * index.double() / max(length - 1, 1) - 1
    return (2 * index.double() + 1) / length - 1


def number_of_pixels(valid: Tensor, pixels: str) -> Tensor | int:
    """Return the number of pixels that a mean of losses divides by.

    Args:
        valid: bool, those with a loss.
        pixels: "all", ignored ones included, as in the published code; or "valid", averaged over
            the processes, at least 1.
    """
    if pixels == "all":
        return valid.numel()
    return mean_over_processes(valid.sum().float()).clamp(min=1)


def check_pixels(pixels: str) -> None:
    """Raise UserError unless :func:`number_of_pixels` knows ``pixels``."""
    if pixels not in MEANS:
        raise UserError(f"MODEL.PER_PIXEL.PIXELS is {pixels!r}: use {' or '.join(MEANS)}.")


@torch.no_grad()
def accuracy(
    scores: Tensor, labels: Tensor, classes: Tensor | None, num_classes: int, align_corners: bool
) -> Tensor:
    """Return the share of correct pixels among the labelled ones: a scalar, NaN without any.

    The scores of one image at a time are resized.

    Args:
        scores: (B, n, h, w) logits.
        labels: (B, H, W) int64; values outside 0 ... K - 1 are ignored.
        classes: (B, n), the class of every column; None: all classes in order.
        num_classes: K.
        align_corners: resize with aligned corners.
    """
    targets = labels
    if classes is not None:
        targets = pixels_to_ranks(labels, classes, num_classes, IGNORED)
    correct = 0
    for image, target in zip(scores, targets, strict=True):
        best = resize(image[None], target.shape, align_corners)[0].argmax(dim=0)
        correct = correct + (best == target).sum()
    return correct / _labelled(labels, num_classes).sum()


@torch.no_grad()
def recalls(labels: Tensor, classes: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Return how much of the ground truth of each image the selected classes cover.

    Args:
        labels: (B, H, W) int64; values outside 0 ... K - 1 are ignored.
        classes: (B, kappa), the selected classes.
        num_classes: K.
    Returns:
        The share of labelled pixels whose class is selected, (B,), and the share of present classes
        that are selected, (B,); NaN where nothing is labelled.
    """
    covered = pixels_to_ranks(labels, classes, num_classes, IGNORED) != IGNORED
    labelled = _labelled(labels, num_classes)
    present = presence(list(labels), num_classes)
    found = present & _selected(classes, num_classes)
    return covered.sum((1, 2)) / labelled.sum((1, 2)), found.sum(1) / present.sum(1)


@torch.no_grad()
def precision(labels: Tensor, classes: Tensor, num_classes: int) -> Tensor:
    """Return the share of the selected classes of each image that are present, (B,); arguments as
    of :func:`recalls`."""
    found = presence(list(labels), num_classes) & _selected(classes, num_classes)
    return found.sum(1) / classes.shape[1]


def _labelled(labels: Tensor, num_classes: int) -> Tensor:
    return (labels >= 0) & (labels < num_classes)


def _selected(classes: Tensor, num_classes: int) -> Tensor:
    return rank_table(classes, num_classes, IGNORED) != IGNORED
