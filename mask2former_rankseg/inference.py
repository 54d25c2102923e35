"""From class and mask logits of queries to segmentations of an image.

Source: Cheng et al., "Masked-attention Mask Transformer for Universal Image Segmentation", CVPR
2022.

Shapes: Q queries, C classes, (h, w) the map of the mask logits, (H, W) the prediction.
"""

import warnings
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from segcore.inference.predictions import PredictionKind, SemanticPrediction
from segcore.inference.windows import Window

from .masked_decoder import resize

Size = tuple[int, int]
# Scores that are computed together: as many as stay in a CPU's cache; elsewhere, fewer steps count.
TOGETHER, TOGETHER_ON_GPU = 1 << 21, 1 << 26


@dataclass(frozen=True)
class Frame:
    """Where an image lies in the batch, and how large the prediction is; each (height, width).

    Attributes:
        padded: of the batch.
        image: without padding, at the left upper corner.
        prediction: asked for.
    """

    padded: Size
    image: Size
    prediction: Size

    @classmethod
    def of(cls, padded: Size, image: Size, item: dict) -> "Frame":
        """Of a model's input, which may ask for a prediction of another size than the image's."""
        prediction = (item.get("height", image[0]), item.get("width", image[1]))
        return cls(tuple(padded), tuple(image), prediction)

    def place(self, masks: Tensor) -> Tensor:
        """Mask logits (N, h, w) of the padded image -> (N, *prediction), bilinear."""
        if not len(masks):
            return masks.new_zeros(0, *self.prediction)
        masks = resize(masks[None], self.padded)[..., : self.image[0], : self.image[1]]
        return masks[0] if self.prediction == self.image else resize(masks, self.prediction)[0]


def class_probabilities(class_logits: Tensor) -> Tensor:
    """(..., C + 1), the last one "no object" -> (..., C)."""
    return class_logits.float().softmax(dim=-1)[..., :-1]


def semantic(
    class_logits: Tensor, mask_logits: Tensor, frame: Frame, kind: PredictionKind, classes: Tensor
) -> dict[str, Tensor]:
    """:func:`weighted_masks` for class logits (Q, C + 1), the last one "no object"."""
    return weighted_masks(class_probabilities(class_logits), mask_logits, frame, kind, classes)


def weighted_masks(
    weights: Tensor, mask_logits: Tensor, frame: Frame, kind: PredictionKind, classes: Tensor
) -> dict[str, Tensor]:
    """Scores of every class at every pixel: mask probabilities weighted by class probabilities.

    Args:
        weights: (Q, C).
        mask_logits: (Q, h, w).
        frame: size and place of the image.
        kind: what is asked for.
        classes: ids (n,) of the classes that can have a score, all others have 0.
    Returns:
        See :meth:`.SemanticPrediction.result`; scores are not normalised.
    """
    prediction = SemanticPrediction(kind, weights.shape[1], frame.prediction, weights.device)
    ids = prediction.order(classes)
    weights = weights[:, ids].T.contiguous()
    masks = frame.place(mask_logits.float())
    top, width = 0, frame.prediction[1]
    together = TOGETHER if masks.device.type == "cpu" else TOGETHER_ON_GPU
    for rows in masks.split(max(together // (len(ids) * width), 1), dim=1):
        window = Window(top, top + rows.shape[1], 0, width)
        scores = weights @ rows.sigmoid().flatten(1)
        prediction.add(window, ids, scores.unflatten(1, window.size))
        top = window.bottom
    return prediction.result()


def panoptic(
    class_logits: Tensor,
    mask_logits: Tensor,
    frame: Frame,
    things: Collection[int],
    *,
    score_threshold: float,
    overlap_threshold: float,
) -> tuple[Tensor, list[dict]]:
    """Each pixel goes to one segment or to none.

    Args:
        class_logits: (Q, C + 1), the last one "no object".
        mask_logits: (Q, h, w).
        frame: size and place of the image.
        things: ids of the classes of which every query is a segment of its own.
        score_threshold: a query takes part if its class probability exceeds this.
        overlap_threshold: share of its mask that a query must win from the others.
    Returns:
        Segment of every pixel, (H, W) int32, 0 = none; and for each segment "id" (from 1),
        "isthing" and "category_id".
    """
    scores, labels = class_logits.float().softmax(dim=-1).max(dim=-1)
    kept = ((labels != class_logits.shape[1] - 1) & (scores > score_threshold)).nonzero()[:, 0]
    segments = torch.zeros(frame.prediction, dtype=torch.int32, device=mask_logits.device)
    if not len(kept):
        warn_of_no_segment("OBJECT_MASK_THRESHOLD", score_threshold)
        return segments, []
    masks = frame.place(mask_logits[kept].float()).sigmoid_()
    owner, owned_well, areas = _divide(scores[kept], masks)
    # One transfer: what follows decides about at most Q numbers.
    *areas, labels = torch.stack([*areas, labels[kept]]).tolist()
    queries = list(zip(*areas, labels, strict=True))
    numbers, info = _number_segments(queries, things, overlap_threshold)
    if not info:
        warn_of_no_segment("OVERLAP_THRESHOLD", overlap_threshold)
    return torch.tensor(numbers, dtype=torch.int32, device=owner.device)[owner] * owned_well, info


def _divide(scores: Tensor, masks: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Which query has the best score at each pixel.

    Args:
        scores: (N,).
        masks: probabilities (N, H, W).
    Returns:
        (H, W) int64; whether the pixel is inside the mask of that query, (H, W) bool; and (N,)
        each: pixels won, pixels of the mask, pixels won inside the mask.
    """
    best, owner = scores[0] * masks[0], torch.zeros_like(masks[0], dtype=torch.int64)
    for query in range(1, len(masks)):
        value = scores[query] * masks[query]
        passes = value > best
        best, owner = value.where(passes, best), owner.masked_fill_(passes, query)
    owned_well = masks.gather(0, owner[None])[0] >= 0.5
    number, flat = len(masks), owner.flatten()
    won = flat.bincount(minlength=number)
    won_inside = flat.bincount(owned_well.flatten().double(), minlength=number).long()
    return owner, owned_well, [won, (masks >= 0.5).flatten(1).sum(dim=1), won_inside]


def _number_segments(
    queries: list[tuple[int, int, int, int]], things: Collection[int], overlap_threshold: float
) -> tuple[list[int], list[dict]]:
    """Segments of the queries, 0 = none, and what they are.

    Args:
        queries: for each the pixels won, those of its mask, those won inside the mask, its class.
    """
    numbers, info, stuff = [], [], {}
    for won, size, won_inside, label in queries:
        if not (won and size and won_inside) or won / size < overlap_threshold:
            numbers.append(0)
        elif label in stuff:  # one segment a class
            numbers.append(stuff[label])
        else:
            numbers.append(len(info) + 1)
            isthing = label in things
            info.append({"id": numbers[-1], "isthing": isthing, "category_id": label})
            if not isthing:
                stuff[label] = numbers[-1]
    return numbers, info


@cache  # once, however often something else changes the filters of warnings
def warn_of_no_segment(key: str, value: float) -> None:
    """Say that a threshold, or a model that has not learned, leaves an image empty."""
    warnings.warn(
        f"no query is a segment of its image: MODEL.MASK_FORMER.TEST.{key} {value} filters all, "
        "or the model is not trained",
        stacklevel=3,
    )


def instances(
    class_logits: Tensor,
    mask_logits: Tensor,
    frame: Frame,
    number: int,
    things: Collection[int] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The best pairs of query and class.

    Args:
        class_logits: (Q, C + 1), the last one "no object".
        mask_logits: (Q, h, w).
        frame: size and place of the image.
        number: of pairs at most; a query may return several classes.
        things: classes to keep of these; None keeps all.
    Returns:
        Best first: scores (N,), classes (N,) int64, masks (N, H, W) bool.
    """
    best, queries, classes = best_pairs(class_probabilities(class_logits), number)
    if things is not None:
        is_thing = torch.zeros(class_logits.shape[1] - 1, dtype=torch.bool)
        is_thing[list(things)] = True
        kept = is_thing.to(classes.device)[classes]
        best, queries, classes = best[kept], queries[kept], classes[kept]
    used, which = queries.unique(return_inverse=True)
    masks = frame.place(mask_logits[used].float())
    inside = masks > 0
    # How sure the mask is where it is.
    sure = (masks.sigmoid() * inside).flatten(1).sum(1) / (inside.flatten(1).sum(1) + 1e-6)
    best, order = (best * sure[which]).sort(descending=True, stable=True)
    return best, classes[order], inside[which[order]]


def mask_boxes(masks: Tensor) -> Tensor:
    """The smallest boxes around masks (N, H, W) bool: (N, 4) float, x0, y0, x1, y1.

    The far edges lie behind the last pixel, as Detectron2 has them; an empty mask has zeros.
    """
    spans = []
    for axis in (1, 2):  # what is left are columns, then rows
        hit = masks.any(dim=axis).int()
        first, past = hit.argmax(dim=1), hit.shape[1] - hit.flip(1).argmax(dim=1)
        spans.append((first, past * hit.any(dim=1)))
    (left, right), (top, bottom) = spans
    return torch.stack([left, top, right, bottom], dim=1).float()


def best_pairs(scores: Tensor, number: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best of N x C scores, at most so many: their values, rows and classes, best first."""
    best, index = scores.flatten().topk(min(number, scores.numel()))
    return best, index // scores.shape[1], index % scores.shape[1]
