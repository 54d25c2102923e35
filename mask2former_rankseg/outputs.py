"""The outputs of all tasks of an image in Detectron2's form.

Shapes: Q queries, C classes, (h, w) the map of the mask logits.
"""

from detectron2.structures import Boxes, Instances
from torch import Tensor

from segcore.datasets.model_classes import ModelClasses
from segcore.inference.predictions import PredictionKind

from .inference import ImageSizes, instances, mask_boxes, panoptic, semantic
from .tasks import Tasks


def solve(
    tasks: Tasks,
    class_logits: Tensor,
    mask_logits: Tensor,
    sizes: ImageSizes,
    *,
    kind: PredictionKind,
    scored_classes: Tensor,
    classes: ModelClasses,
    zero_boxes: bool = False,
) -> dict:
    """Return the outputs of all tasks for an image.

    Args:
        tasks: which ones.
        class_logits: (Q, C + 1), the last for "no object".
        mask_logits: (Q, h, w), of the padded image.
        sizes: of the image.
        kind: form of the semantic prediction.
        scored_classes: ids of the classes that can have a score.
        classes: of the model; the panoptic task needs to know which are things.
        zero_boxes: the boxes of instances are zeros, as in the published code, not those of
            the masks.
    """
    queries, prediction = (class_logits, mask_logits, sizes), {}
    if tasks.semantic:
        prediction |= semantic(*queries, kind, scored_classes, tasks.resize_scores)
    if tasks.panoptic:
        prediction["panoptic_seg"] = panoptic(
            *queries,
            classes.things,
            score_threshold=tasks.score_threshold,
            overlap_threshold=tasks.overlap_threshold,
            whole_areas=tasks.whole_areas,
        )
    if tasks.instance:
        kept = classes.things if tasks.panoptic else None
        scores, labels, masks = instances(*queries, tasks.num_instances, kept)
        boxes = scores.new_zeros(len(scores), 4) if zero_boxes else mask_boxes(masks)
        prediction["instances"] = Instances(
            sizes.prediction,
            scores=scores,
            pred_classes=labels,
            pred_masks=masks,
            pred_boxes=Boxes(boxes),
        )
    return prediction
