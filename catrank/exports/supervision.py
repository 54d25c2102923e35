"""Detections of the package supervision: annotators, trackers, zones and metrics work on them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from segcore.errors import UserError

if TYPE_CHECKING:
    import supervision


def supervision_detections(
    boxes: np.ndarray,
    masks: np.ndarray,
    class_ids: np.ndarray,
    class_names: Sequence[str],
    *,
    scores: np.ndarray | None = None,
    track_ids: np.ndarray | None = None,
) -> "supervision.Detections":
    """Return detections.

    Args:
        boxes: (N, 4), x0, y0, x1, y1.
        masks: (N, H, W) bool.
        class_ids: (N,).
        class_names: of all classes.
        scores, track_ids: (N,), where there are some.

    Raises:
        UserError: the package is not installed.
    """
    try:
        import supervision
    except ImportError as error:
        raise UserError(
            "detections need the package supervision: pip install supervision"
        ) from error
    data: dict[str, Any] = {
        "class_name": np.array([class_names[class_id] for class_id in class_ids], dtype=str)
    }
    return supervision.Detections(
        xyxy=boxes.astype(np.float32),
        mask=masks,
        confidence=scores,
        class_id=class_ids,
        tracker_id=track_ids,
        data=data,
    )
