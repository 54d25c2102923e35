"""Test-time augmentation of semantic segmentation: average over sizes and horizontal flips."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.utils.events import has_event_storage
from torch import Tensor, nn

from segcore.config import TASK_SWITCHES, task_switches
from segcore.errors import UserError
from segcore.inference.unmerged import HorizontalFlip, UnmergedPrediction, mean_prediction
from segcore.rankseg.selection import select_top


def with_tta(cfg: CfgNode, model: nn.Module) -> nn.Module:
    """Return the model with the test-time augmentation of ``TEST.AUG``; itself if not enabled.

    Evaluations during training skip it, since it takes several times as long.

    Raises:
        UserError: the settings cannot be used, or the model predicts more than semantic maps.
    """
    node = cfg.TEST.AUG
    if not node.ENABLED or has_event_storage():
        return model
    if not node.MIN_SIZES or min(node.MIN_SIZES) < 1 or node.MAX_SIZE < 1:
        raise UserError(
            f"TEST.AUG.MIN_SIZES is {node.MIN_SIZES} and MAX_SIZE {node.MAX_SIZE}: give the "
            "lengths of the shorter side, at least one, and the maximum of the longer side"
        )
    tasks = task_switches(cfg) or {}
    for key in ("PANOPTIC_ON", "INSTANCE_ON"):
        if tasks.get(key):
            raise UserError(
                f"TEST.AUG is for semantic segmentation alone: set {TASK_SWITCHES}.{key} to False, "
                "or TEST.AUG.ENABLED"
            )
    return SemanticTTA(model, node.MIN_SIZES, node.MAX_SIZE, flip=node.FLIP)


class SemanticTTA(nn.Module):
    """Predict like the model, with scores averaged over several views of each image.

    Models with ``unmerged_predictions`` return the prediction of a view before it becomes scores of
    pixels, so that memory does not grow with classes times pixels. For other models the scores
    (T, H, W) of one view and their sum are held.
    """

    def __init__(
        self, model: nn.Module, min_sizes: Sequence[int], max_size: int, *, flip: bool
    ) -> None:
        """
        Args:
            model: returns "sem_seg".
            min_sizes: lengths of the shorter side.
            max_size: maximum length of the longer side.
            flip: whether to add a horizontal flip of every size.
        """
        super().__init__()
        self.model = model
        self.resizes = [ResizeShortestEdge(size, max_size) for size in min_sizes]
        self.flip = flip
        self.train(model.training)

    @torch.no_grad()
    def forward(self, batched_inputs: list[dict]) -> list[dict[str, Tensor]]:
        """Segment images.

        Args:
            batched_inputs: those of the model; views are made of "image".
        Returns:
            the model's semantic predictions; "category_scores" are averaged too, and
            "category_ids" are the classes with the highest ones.
        """
        return [self._segment(item) for item in batched_inputs]

    def _segment(self, item: dict) -> dict[str, Tensor]:
        if not isinstance(item["image"], Tensor):
            raise UserError("TEST.AUG is for images, not for videos: set TEST.AUG.ENABLED False")
        inputs = list(self._views(item))
        if not hasattr(self.model, "unmerged_predictions"):
            return {"sem_seg": self._mean_scores(inputs)}
        views = self.model.unmerged_predictions(inputs)
        views[1::2] = map(HorizontalFlip, views[1::2]) if self.flip else views[1::2]
        return mean_prediction(views, self.model.prediction_kind) | _mean_categories(views)

    def _views(self, item: dict) -> Iterator[dict]:
        """Yield the inputs of all sizes; with ``flip`` each is followed by its horizontal flip."""
        pixels = np.ascontiguousarray(item["image"].permute(1, 2, 0).cpu().numpy())
        height, width = pixels.shape[:2]
        size = {"height": item.get("height", height), "width": item.get("width", width)}
        for resize in self.resizes:
            resized = resize.get_transform(pixels).apply_image(pixels)
            image = torch.from_numpy(np.array(resized)).permute(2, 0, 1)
            yield item | size | {"image": image}
            if self.flip:
                yield item | size | {"image": image.flip(-1)}

    def _mean_scores(self, inputs: Sequence[dict]) -> Tensor:
        """Return mean scores (T, H, W)."""
        total = None
        for number, item in enumerate(inputs):
            scores = self.model([item])[0]["sem_seg"]
            scores = scores.flip(-1) if self.flip and number % 2 else scores
            total = scores if total is None else total.add_(scores)
        return total / len(inputs)


def _mean_categories(views: Sequence[UnmergedPrediction]) -> dict[str, Tensor]:
    """Return RankSeg's averaged category scores and the selected classes, if there are any."""
    if views[0].category_scores is None:
        return {}
    scores = torch.stack([view.category_scores for view in views]).mean(dim=0)
    ids = select_top(scores[None], len(views[0].classes))[0]
    return {"category_scores": scores, "category_ids": ids}
