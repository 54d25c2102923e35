"""Objects as segments: those of an image or frame, painted over each other."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from segcore.annotations.panoptic_png import Segments
from segcore.outlines import decode_mask, draw_outline

SURE = 0.5  # predictions of a lower score are not drawn
BACKGROUND = -1  # the class of what is no object, so that it is not taken for unknown


def paint(masks: Sequence[np.ndarray], classes: Sequence[int], size: tuple[int, int]) -> Segments:
    """Segments of objects, of which the first ones cover the others; hidden ones are left out.

    Args:
        masks: N of (H, W) bool.
        classes: their class ids.
        size: (H, W).

    Returns:
        with the rest of the image as a segment of ``BACKGROUND``, the last one.
    """
    ids = np.full(size, len(masks) + 1, dtype=np.int64)
    classes = [*classes, BACKGROUND]
    for number, mask in reversed(list(enumerate(masks, 1))):
        ids[mask] = number
    return Segments(ids, {each: int(classes[each - 1]) for each in np.unique(ids).tolist()})


def true_objects(annotations: Sequence[dict], size: tuple[int, int], where: str) -> Segments:
    """The annotated objects of an image or frame of (H, W), the smallest in front.

    Raises:
        UserError: an outline is damaged.
    """
    masks = [draw_outline(each["segmentation"], size, where) for each in annotations]
    order = np.argsort([mask.sum() for mask in masks], kind="stable")
    classes = [annotations[place]["category_id"] for place in order]
    return paint([masks[place] for place in order], classes, size)


def predicted_objects(instances: Any) -> Segments:
    """The objects that a model is sure of, the surest in front: of its ``Instances``."""
    masks, classes = instances.pred_masks.bool().cpu().numpy(), instances.pred_classes.tolist()
    return _surest(instances.scores.tolist(), classes, list(masks), masks.shape[1:])


def predicted_tracks(output: dict, frames: int, size: tuple[int, int]) -> Iterator[Segments]:
    """The same of tracks, frame by frame of a video of (H, W)."""
    scores, classes = map(list, (output["pred_scores"], output["pred_labels"]))
    for frame in range(frames):
        masks = [decode_mask(track[frame], size, "a prediction") for track in output["pred_masks"]]
        yield _surest(scores, classes, masks, size)


def _surest(
    scores: Sequence[float],
    classes: Sequence[int],
    masks: Sequence[np.ndarray],
    size: tuple[int, int],
) -> Segments:
    order = [place for place in np.argsort(scores)[::-1] if scores[place] >= SURE]
    return paint([masks[place] for place in order], [classes[place] for place in order], size)
