"""Semantic, panoptic and instance segmentation from class and mask logits of queries.

Source: Cheng et al., "Per-Pixel Classification is Not All You Need for Semantic Segmentation",
NeurIPS 2021 (MaskFormer), and "Masked-attention Mask Transformer for Universal Image Segmentation",
CVPR 2022 (Mask2Former).

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
# Scores per chunk: as many as fit a CPU's cache; on a GPU more, because few steps are faster.
CHUNK, GPU_CHUNK = 1 << 21, 1 << 26


@dataclass(frozen=True)
class ImageSizes:
    """Sizes of an image on its way through the model; each (height, width).

    Attributes:
        padded: of the batch.
        image: without the padding, which is right and below.
        prediction: of the output.
    """

    padded: Size
    image: Size
    prediction: Size

    @classmethod
    def of(cls, padded: Size, image: Size, item: dict) -> "ImageSizes":
        """Read the size of the prediction from a model's input; by default that of the image."""
        prediction = (item.get("height", image[0]), item.get("width", image[1]))
        return cls(tuple(padded), tuple(image), prediction)

    def resize_masks(self, masks: Tensor) -> Tensor:
        """Resize mask logits (N, h, w) of the padded image to (N, *prediction), bilinear."""
        if not len(masks):
            return masks.new_zeros(0, *self.prediction)
        return self.to_prediction(self.to_image(masks))

    def to_image(self, masks: Tensor) -> Tensor:
        """Resize masks (N, h, w) of the padded image to it, and crop them to (N, *image)."""
        return resize(masks[None], self.padded)[0, :, : self.image[0], : self.image[1]]

    def to_prediction(self, masks: Tensor) -> Tensor:
        """Resize masks (N, *image) to (N, *prediction)."""
        return masks if self.prediction == self.image else resize(masks[None], self.prediction)[0]


def class_probabilities(class_logits: Tensor) -> Tensor:
    """Softmax of logits (..., C + 1), the last one "no object", without it: (..., C)."""
    return class_logits.float().softmax(dim=-1)[..., :-1]


def semantic(
    class_logits: Tensor,
    mask_logits: Tensor,
    sizes: ImageSizes,
    kind: PredictionKind,
    classes: Tensor,
    resize_scores: bool = False,
) -> dict[str, Tensor]:
    """Return :func:`weighted_masks` of class logits (Q, C + 1), the last one "no object"."""
    weights = class_probabilities(class_logits)
    return weighted_masks(weights, mask_logits, sizes, kind, classes, resize_scores)


def weighted_masks(
    weights: Tensor,
    mask_logits: Tensor,
    sizes: ImageSizes,
    kind: PredictionKind,
    classes: Tensor,
    resize_scores: bool = False,
) -> dict[str, Tensor]:
    """Score every class at every pixel: mask probabilities weighted by class probabilities.

    Args:
        weights: class probabilities (Q, C).
        mask_logits: (Q, h, w).
        sizes: of the image.
        kind: form of the prediction.
        classes: ids (n,) of the classes that can have a score, all others have 0.
        resize_scores: return scores of the image's size, resized, as MaskFormer does; otherwise
            mask logits are resized before.
    Returns:
        See :meth:`.SemanticPrediction.result`; scores are not normalised.
    """
    prediction = SemanticPrediction(kind, weights.shape[1], sizes.prediction, weights.device)
    ids = prediction.order(classes)
    weights = weights[:, ids].T.contiguous()
    if resize_scores:  # linear: the mask probabilities can be resized in place of the scores
        masks = sizes.to_prediction(sizes.to_image(mask_logits.float()).sigmoid_())
    else:
        masks = sizes.resize_masks(mask_logits.float())
    top, width = 0, sizes.prediction[1]
    chunk = CHUNK if masks.device.type == "cpu" else GPU_CHUNK
    for rows in masks.split(max(chunk // (len(ids) * width), 1), dim=1):
        window = Window(top, top + rows.shape[1], 0, width)
        inside = rows if resize_scores else rows.sigmoid()
        scores = weights @ inside.flatten(1)
        prediction.add(window, ids, scores.unflatten(1, window.size))
        top = window.bottom
    return prediction.result()


def panoptic(
    class_logits: Tensor,
    mask_logits: Tensor,
    sizes: ImageSizes,
    things: Collection[int],
    *,
    score_threshold: float,
    overlap_threshold: float,
    whole_areas: bool = False,
) -> tuple[Tensor, list[dict]]:
    """Assign each pixel to one segment or to none.

    Args:
        class_logits: (Q, C + 1), the last one "no object".
        mask_logits: (Q, h, w).
        sizes: of the image.
        things: ids of the thing classes; queries of a stuff class form one segment.
        score_threshold: queries whose class probability does not exceed it are ignored.
        overlap_threshold: fraction of its mask that must remain visible of a query.
        whole_areas: a segment is all pixels where its query has the highest score, as in
            MaskFormer; otherwise those of them that are inside the query's mask.
    Returns:
        Segment ids (H, W) int32, 0 = none; and for each segment "id" (from 1), "isthing" and
        "category_id".
    """
    scores, labels = class_logits.float().softmax(dim=-1).max(dim=-1)
    kept = ((labels != class_logits.shape[1] - 1) & (scores > score_threshold)).nonzero()[:, 0]
    segments = torch.zeros(sizes.prediction, dtype=torch.int32, device=mask_logits.device)
    if not len(kept):
        warn_of_no_segment("OBJECT_MASK_THRESHOLD", score_threshold)
        return segments, []
    masks = sizes.resize_masks(mask_logits[kept].float()).sigmoid_()
    best, inside, areas = _assign_pixels(scores[kept], masks)
    if whole_areas:
        inside, areas = torch.ones_like(inside), [*areas[:2], areas[0]]
    # One transfer to the CPU: at most Q queries are left to decide about.
    *areas, labels = torch.stack([*areas, labels[kept]]).tolist()
    queries = list(zip(*areas, labels, strict=True))
    ids, info = _number_segments(queries, things, overlap_threshold)
    if not info:
        warn_of_no_segment("OVERLAP_THRESHOLD", overlap_threshold)
    return torch.tensor(ids, dtype=torch.int32, device=best.device)[best] * inside, info


def _assign_pixels(scores: Tensor, masks: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Find the query with the highest score at each pixel: class times mask probability.

    Args:
        scores: class probabilities (N,).
        masks: mask probabilities (N, H, W).
    Returns:
        best: index of the query, (H, W) int64.
        inside: whether the pixel is inside the mask of that query, (H, W) bool.
        areas: (N,) each: pixels of the query, pixels of its mask, and those that are both.
    """
    highest, best = scores[0] * masks[0], torch.zeros_like(masks[0], dtype=torch.int64)
    for query in range(1, len(masks)):
        value = scores[query] * masks[query]
        higher = value > highest
        highest, best = value.where(higher, highest), best.masked_fill_(higher, query)
    inside = masks.gather(0, best[None])[0] >= 0.5
    number, flat = len(masks), best.flatten()
    area = flat.bincount(minlength=number)
    area_inside = flat.bincount(inside.flatten().double(), minlength=number).long()
    return best, inside, [area, (masks >= 0.5).flatten(1).sum(dim=1), area_inside]


def _number_segments(
    queries: list[tuple[int, int, int, int]], things: Collection[int], overlap_threshold: float
) -> tuple[list[int], list[dict]]:
    """Return the segment id of each query, 0 = none, and the segments.

    Args:
        queries: for each its number of pixels, that of its mask, that of both, and its class.
    """
    ids, info, stuff = [], [], {}
    for area, mask_area, area_inside, label in queries:
        if not (area and mask_area and area_inside) or area / mask_area < overlap_threshold:
            ids.append(0)
        elif label in stuff:  # one segment per stuff class
            ids.append(stuff[label])
        else:
            ids.append(len(info) + 1)
            isthing = label in things
            info.append({"id": ids[-1], "isthing": isthing, "category_id": label})
            if not isthing:
                stuff[label] = ids[-1]
    return ids, info


@cache  # warn once, even if other code resets the warning filters
def warn_of_no_segment(key: str, value: float) -> None:
    """Warn that a threshold, or an untrained model, leaves an image without segments."""
    warnings.warn(
        f"no query is a segment of its image: MODEL.MASK_FORMER.TEST.{key} {value} filters all, "
        "or the model is not trained",
        stacklevel=3,
    )


def instances(
    class_logits: Tensor,
    mask_logits: Tensor,
    sizes: ImageSizes,
    number: int,
    things: Collection[int] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the top-scoring pairs of query and class as instances.

    Args:
        class_logits: (Q, C + 1), the last one "no object".
        mask_logits: (Q, h, w).
        sizes: of the image.
        number: N at most; a query may occur with several classes.
        things: keep pairs of these classes alone; None keeps all.
    Returns:
        Best first: scores (N,), class probability times mean mask probability inside the mask;
        classes (N,) int64; masks (N, H, W) bool.
    """
    best, queries, classes = best_pairs(class_probabilities(class_logits), number)
    if things is not None:
        is_thing = torch.zeros(class_logits.shape[1] - 1, dtype=torch.bool)
        is_thing[list(things)] = True
        kept = is_thing.to(classes.device)[classes]
        best, queries, classes = best[kept], queries[kept], classes[kept]
    used, which = queries.unique(return_inverse=True)
    masks = sizes.resize_masks(mask_logits[used].float())
    inside = masks > 0
    mask_scores = (masks.sigmoid() * inside).flatten(1).sum(1) / (inside.flatten(1).sum(1) + 1e-6)
    best, order = (best * mask_scores[which]).sort(descending=True, stable=True)
    return best, classes[order], inside[which[order]]


def mask_boxes(masks: Tensor) -> Tensor:
    """Return the bounding boxes of masks (N, H, W) bool: (N, 4) float, x0, y0, x1, y1.

    As in Detectron2, x1 and y1 are one more than the last column and row; the box of an empty mask
    is zeros.
    """
    spans = []
    for axis in (1, 2):  # columns, then rows
        hit = masks.any(dim=axis).int()
        first, end = hit.argmax(dim=1), hit.shape[1] - hit.flip(1).argmax(dim=1)
        spans.append((first, end * hit.any(dim=1)))
    (left, right), (top, bottom) = spans
    return torch.stack([left, top, right, bottom], dim=1).float()


def best_pairs(scores: Tensor, number: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the ``number`` highest of scores (N, C), best first: values, rows and classes."""
    best, index = scores.flatten().topk(min(number, scores.numel()))
    return best, index // scores.shape[1], index % scores.shape[1]
