"""Convert the objects of an image or frame to segments, painted over each other."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from segcore.annotations.panoptic_png import Segments
from segcore.outlines import decode_mask, draw_outline

MIN_SCORE = 0.5  # objects of a lower score are left out
BACKGROUND = -1  # class of pixels without an object, which are not unknown


def paint(masks: Sequence[np.ndarray], classes: Sequence[int], size: tuple[int, int]) -> Segments:
    """Return the segments of objects: earlier ones cover later ones, hidden ones are left out.

    Args:
        masks: N of (H, W) bool.
        classes: their class ids.
        size: (H, W).

    Returns:
        the segments, the last of which is the rest of the image, of class ``BACKGROUND``.
    """
    ids = np.full(size, len(masks) + 1, dtype=np.int64)
    classes = [*classes, BACKGROUND]
    for number, mask in reversed(list(enumerate(masks, 1))):
        ids[mask] = number
    return Segments(ids, {each: int(classes[each - 1]) for each in np.unique(ids).tolist()})


def true_objects(annotations: Sequence[dict], size: tuple[int, int], where: str) -> Segments:
    """Return the annotated objects of an image or frame of (H, W), the smallest in front.

    Raises:
        UserError: an outline is damaged.
    """
    masks = [draw_outline(each["segmentation"], size, where) for each in annotations]
    order = np.argsort([mask.sum() for mask in masks], kind="stable")
    classes = [annotations[index]["category_id"] for index in order]
    return paint([masks[index] for index in order], classes, size)


def predicted_objects(instances: Any) -> Segments:
    """Return the objects of ``Instances`` from ``MIN_SCORE`` on, the highest scores in front."""
    masks, classes = instances.pred_masks.bool().cpu().numpy(), instances.pred_classes.tolist()
    return _paint_by_score(instances.scores.tolist(), classes, list(masks), masks.shape[1:])


def predicted_tracks(output: dict, frames: int, size: tuple[int, int]) -> Iterator[Segments]:
    """Yield the predicted objects of every frame of a video of (H, W), likewise."""
    scores, classes = map(list, (output["pred_scores"], output["pred_labels"]))
    for frame in range(frames):
        masks = [decode_mask(track[frame], size, "a prediction") for track in output["pred_masks"]]
        yield _paint_by_score(scores, classes, masks, size)


def _paint_by_score(
    scores: Sequence[float],
    classes: Sequence[int],
    masks: Sequence[np.ndarray],
    size: tuple[int, int],
) -> Segments:
    order = [index for index in np.argsort(scores)[::-1] if scores[index] >= MIN_SCORE]
    return paint([masks[index] for index in order], [classes[index] for index in order], size)
