"""Draw a few predictions of an evaluation for TensorBoard and the trackers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage, has_event_storage
from torch import nn

from segcore.drawing.overlays import fit
from segcore.drawing.segments import (
    Regions,
    Segment,
    class_regions,
    draw_regions,
    paint_masks,
    segment_regions,
)
from segcore.images import read_image
from segcore.vocabulary import Vocabulary

SIDE = 512  # pixels of the longer side of a drawn image
MIN_SCORE = 0.5  # of objects that are drawn


def with_drawings(
    cfg: CfgNode, data_set: str, model: nn.Module, evaluator: DatasetEvaluator
) -> DatasetEvaluator:
    """Return the evaluator; during a training that of the main process draws predictions too.

    Args:
        cfg: with ``TRACKER.IMAGES``, their number.
        data_set: its name.
        model: with a ``vocabulary``, else that of the data set counts.
        evaluator: of the data set.
    """
    vocabulary = getattr(model, "vocabulary", None) or MetadataCatalog.get(data_set).get(
        "vocabulary"
    )
    wanted = cfg.TRACKER.IMAGES > 0 and has_event_storage() and comm.is_main_process()
    if not wanted or not vocabulary:
        return evaluator
    return DrawingEvaluator(evaluator, cfg.TRACKER.IMAGES, data_set, Vocabulary.load(vocabulary))


class DrawingEvaluator(DatasetEvaluator):
    """Pass everything to an evaluator, and put drawings of the first images into the storage."""

    def __init__(
        self, evaluator: DatasetEvaluator, count: int, prefix: str, vocabulary: Vocabulary
    ) -> None:
        """
        Args:
            evaluator: of a data set.
            count: number of images to draw.
            prefix: of the names of the drawings, which end with the index of the image.
            vocabulary: names and colours of the predicted classes.
        """
        self.reset, self.evaluate, self._process = (
            evaluator.reset,
            evaluator.evaluate,
            evaluator.process,
        )
        self._count, self._prefix, self._vocabulary = count, prefix, vocabulary
        self._drawn = 0

    def process(self, inputs: Sequence[dict], outputs: Sequence[dict]) -> None:
        self._process(inputs, outputs)  # first: it checks the output
        for item, output in zip(inputs, outputs, strict=True):
            if self._drawn == self._count:
                break
            drawing = draw_prediction(item, output, self._vocabulary)
            if drawing is None:
                break
            name = f"{self._prefix}/{self._drawn}"
            get_event_storage().put_image(name, np.moveaxis(drawing, 2, 0))
            self._drawn += 1


def draw_prediction(
    item: dict[str, Any], output: dict[str, Any], vocabulary: Vocabulary
) -> np.ndarray | None:
    """Return the image and its prediction side by side, (H, W, 3) uint8.

    Args:
        item: with ``file_name``, or ``file_names`` of a video, whose first frame is drawn.
        output: of the model, in Detectron2's form.
        vocabulary: names and colours of the classes.

    Returns:
        None if the output holds neither labels nor segments of an image.
    """
    names = [item["file_name"]] if "file_name" in item else item.get("file_names", [])
    regions = _regions(output, vocabulary)
    if not names or regions is None:
        return None
    image = read_image(names[0], "RGB")
    if image.shape[:2] != regions.labels.shape:
        return None  # a crop of the image, or another orientation
    pair = np.concatenate([image, draw_regions(image, regions)], axis=1)
    return fit(pair, 2 * SIDE)


def _regions(output: dict[str, Any], vocabulary: Vocabulary) -> Regions | None:
    if "panoptic_seg" in output:
        ids, listed = output["panoptic_seg"]
        segments = [Segment(s["id"], s["category_id"], s["isthing"]) for s in listed]
        return segment_regions(ids.cpu().numpy(), segments, vocabulary)
    if "sem_seg_labels" in output or "sem_seg" in output:
        labels = output["sem_seg_labels"] if "sem_seg_labels" in output else output["sem_seg"]
        labels = labels if "sem_seg_labels" in output else labels.argmax(0)
        labels = labels[0] if labels.ndim == 3 else labels
        return class_regions(_known(labels, vocabulary), vocabulary)
    if "instances" in output:
        found = output["instances"]
        found = found[found.scores >= MIN_SCORE]
        classes = found.pred_classes.tolist()
        segments = [Segment(i, class_id) for i, class_id in enumerate(classes, 1)]
        masks = found.pred_masks.cpu().numpy().astype(bool)
        return segment_regions(
            paint_masks(masks, range(1, len(segments) + 1)), segments, vocabulary
        )
    return None


def _known(labels: torch.Tensor, vocabulary: Vocabulary) -> np.ndarray:
    """Return class ids as an array; all prompts of the background are one class."""
    background = vocabulary.background
    return (labels if background is None else labels.clamp(max=background.first)).cpu().numpy()
