"""From the output of a model, in Detectron2's form, to a :class:`catrank.Result`."""

from typing import Any

import numpy as np
from torch import Tensor

from catrank.results import Result
from segcore.drawing.segments import Segment, paint_masks
from segcore.vocabulary import Vocabulary


def read_output(
    output: dict[str, Any],
    name: str,
    image: np.ndarray,
    vocabulary: Vocabulary,
    min_score: float,
    frame: int | None = None,
) -> Result:
    """Return the result of an image.

    Args:
        output: with "panoptic_seg", "instances" or "sem_seg_labels".
        name, image, vocabulary: as of :class:`Result`.
        min_score: of instances that are kept.
        frame: index in a video.
    """
    more: dict[str, Any] = {"frame": frame}
    if "category_scores" in output:
        more["category_scores"] = output["category_scores"].float().cpu().numpy()
    if "category_ids" in output:
        more["category_ids"] = output["category_ids"].cpu().numpy()
    if "panoptic_seg" in output:
        ids, listed = output["panoptic_seg"]
        segments = tuple(
            Segment(info["id"], info["category_id"], info["isthing"], info.get("score"))
            for info in listed
        )
        return Result(name, image, vocabulary, "panoptic", as_int32(ids), segments, **more)
    if "instances" in output:
        return _instances(output["instances"], name, image, vocabulary, min_score, more)
    if "top_k_scores" in output:
        scores = output["top_k_scores"].float().cpu().numpy()
        more["pixel_scores"] = scores[0]
        if len(scores) > 1:
            more["top_scores"] = scores
            more["top_labels"] = label_map(output["top_k_labels"], vocabulary)
    labels = label_map(output["sem_seg_labels"], vocabulary)
    return Result.semantic(name, image, vocabulary, labels, **more)


def label_map(labels: Tensor, vocabulary: Vocabulary) -> np.ndarray:
    """Class ids (H, W) int32 of a label map, in which all words of the background are one class."""
    background = vocabulary.background
    return as_int32(labels if background is None else labels.clamp(max=background.first))


def as_int32(ids: Tensor) -> np.ndarray:
    """Ids as an array."""
    return ids.cpu().numpy().astype(np.int32, copy=False)


def _instances(
    found: Any,
    name: str,
    image: np.ndarray,
    vocabulary: Vocabulary,
    min_score: float,
    more: dict[str, Any],
) -> Result:
    """The objects of Detectron2's ``Instances`` with ``min_score`` or more, best first."""
    found = found[(found.scores >= min_score) & found.pred_masks.flatten(1).any(dim=1)]
    classes, scores = found.pred_classes.tolist(), found.scores.tolist()
    segments = tuple(
        Segment(number, class_id, score=score)
        for number, (class_id, score) in enumerate(zip(classes, scores, strict=True), 1)
    )
    masks = found.pred_masks.cpu().numpy()
    ids = paint_masks(masks, range(1, len(segments) + 1)).astype(np.int32)
    return Result(name, image, vocabulary, "instance", ids, segments, object_masks=masks, **more)
