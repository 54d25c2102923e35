"""Draw predictions on the frames of a video: an object keeps its colour from frame to frame."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from detectron2.data import Metadata
from detectron2.structures import Instances
from detectron2.utils._drawing import Color, GenericMask, VisImage, distinct_color
from detectron2.utils.visualizer import ColorMode, Visualizer, _create_text_labels

_SAME = 0.5  # intersection over union of an object in two frames
_PATIENCE = 8  # frames that an object may be out of sight


@dataclass
class _Seen:
    """An object of the previous frames."""

    label: int
    region: np.ndarray
    color: Color
    frame: int


class VideoVisualizer:
    """Draws frame after frame.

    Args:
        metadata: names and colours of the classes.
        instance_mode: see :class:`ColorMode`; ``SEGMENTATION`` colours objects by class.
    """

    def __init__(
        self, metadata: Metadata | None, instance_mode: ColorMode = ColorMode.IMAGE
    ) -> None:
        self.metadata = metadata
        self._instance_mode = instance_mode
        self._seen: list[_Seen] = []
        self._frame = self._colors = 0

    def draw_instance_predictions(self, frame: np.ndarray, predictions: Instances) -> VisImage:
        """Draw the instances of a frame (H, W, 3), RGB; see :class:`Visualizer`."""
        visualizer = Visualizer(frame, self.metadata, instance_mode=self._instance_mode)
        boxes, scores, classes, masks = (
            predictions.get(name) if predictions.has(name) else None
            for name in ("pred_boxes", "scores", "pred_classes", "pred_masks")
        )
        masks = None if masks is None else visualizer._convert_masks(masks)
        boxes = None if boxes is None else visualizer._convert_boxes(boxes)
        labels = [0] * len(predictions) if classes is None else [int(label) for label in classes]
        colors = self._colors_of(labels, boxes if masks is None else _regions(masks))
        if self._instance_mode == ColorMode.SEGMENTATION:
            colors = [visualizer._class_color("thing_colors", label) for label in labels]
        if self._instance_mode == ColorMode.IMAGE_BW:
            found = np.any(_regions(masks), axis=0) if masks else None
            visualizer.output.reset_image(visualizer._create_grayscale_image(found))
        names = visualizer.metadata.get("thing_classes")
        return visualizer.overlay_instances(
            boxes=boxes if masks is None else None,  # masks show it better
            masks=masks,
            labels=_create_text_labels(classes, scores, names),
            assigned_colors=colors,
        )

    def draw_sem_seg(
        self, frame: np.ndarray, sem_seg: torch.Tensor, area_threshold: int | None = None
    ) -> VisImage:
        """Draw a map (H, W) of class ids on a frame."""
        visualizer = Visualizer(frame, self.metadata, instance_mode=self._instance_mode)
        return visualizer.draw_sem_seg(sem_seg, area_threshold)

    def draw_panoptic_seg_predictions(
        self,
        frame: np.ndarray,
        panoptic_seg: torch.Tensor,
        segments_info: Sequence[dict],
        area_threshold: int | None = None,
        alpha: float = 0.5,
    ) -> VisImage:
        """Draw a map (H, W) of segment ids on a frame; see :class:`Visualizer`."""
        visualizer = Visualizer(frame, self.metadata, instance_mode=self._instance_mode)
        ids = np.asarray(torch.as_tensor(panoptic_seg).cpu())
        things = [segment for segment in segments_info if segment["isthing"]]
        regions = [ids == segment["id"] for segment in things]
        colors = self._colors_of([segment["category_id"] for segment in things], regions)
        return visualizer._draw_segments(
            ids,
            segments_info,
            area_threshold,
            alpha,
            {segment["id"]: color for segment, color in zip(things, colors, strict=True)},
        )

    def _colors_of(self, labels: Sequence[int], regions: Any) -> list[Color]:
        """Return the colours of the objects of the next frame: the previous ones, or new ones."""
        self._frame += 1
        free = [each for each in self._seen if self._frame - each.frame <= _PATIENCE]
        colors, kept = [], []
        for label, region in zip(labels, regions if regions is not None else (), strict=True):
            candidates = [each for each in free if each.label == label]
            best = max(candidates, key=lambda each: _overlap(each.region, region), default=None)
            if best is not None and _overlap(best.region, region) >= _SAME:
                free = [each for each in free if each is not best]
                color = best.color
            else:
                color = distinct_color(self._colors)
                self._colors += 1
            colors.append(color)
            kept.append(_Seen(label, np.asarray(region), color, self._frame))
        self._seen = kept + free
        return colors


def _regions(masks: Sequence[GenericMask]) -> list[np.ndarray]:
    return [each.mask.astype(bool) for each in masks]


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union of two masks (H, W), or of two boxes (4,)."""
    one, other = np.asarray(one), np.asarray(other)
    if one.ndim == 2:
        union = (one | other).sum()
        return float((one & other).sum() / union) if union else 0.0
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    shared = max(sides[0], 0) * max(sides[1], 0)
    union = np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2]) - shared
    return float(shared / union) if union else 0.0
