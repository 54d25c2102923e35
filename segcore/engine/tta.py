"""Test-time augmentation of semantic segmentation: the mean over sizes and horizontal flips."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.utils.events import has_event_storage
from torch import Tensor, nn

from segcore.config import TASK_SWITCHES, task_switches
from segcore.errors import UserError
from segcore.inference.unmerged import Mirrored, UnmergedPrediction, mean_prediction
from segcore.rankseg.selection import select_top


def with_tta(cfg: CfgNode, model: nn.Module) -> nn.Module:
    """The model as ``TEST.AUG`` wants it evaluated; itself where that is not enabled.

    Evaluations within a training leave it out, as it takes several times as long.

    Raises:
        UserError: the settings cannot be used, or the model predicts more than semantic maps.
    """
    node = cfg.TEST.AUG
    if not node.ENABLED or has_event_storage():
        return model
    if not node.MIN_SIZES or min(node.MIN_SIZES) < 1 or node.MAX_SIZE < 1:
        raise UserError(
            f"TEST.AUG.MIN_SIZES is {node.MIN_SIZES} and MAX_SIZE {node.MAX_SIZE}: give the "
            "lengths of the shorter side, at least one, and the most that the longer may have"
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
    """Predictions like its model, with the mean of the scores of several views of each image.

    Models with ``unmerged_predictions`` are asked for what they find in a view before it becomes
    scores of pixels, so that memory does not grow with classes times pixels. Of others the scores
    (T, H, W) of one view are held, and their sum.
    """

    def __init__(
        self, model: nn.Module, min_sizes: Sequence[int], max_size: int, *, flip: bool
    ) -> None:
        """
        Args:
            model: whatever returns "sem_seg".
            min_sizes: lengths of the shorter side.
            max_size: at most, of the longer side.
            flip: whether there is a horizontal flip of every size, too.
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
            batched_inputs: as of the model. Views are made of "image", as it comes.
        Returns:
            what the model predicts for semantic segmentation; "category_scores" are means, too, and
            "category_ids" those for which they are largest.
        """
        return [self._segment(item) for item in batched_inputs]

    def _segment(self, item: dict) -> dict[str, Tensor]:
        if not isinstance(item["image"], Tensor):
            raise UserError("TEST.AUG is for images, not for videos: set TEST.AUG.ENABLED False")
        inputs = list(self._views(item))
        if not hasattr(self.model, "unmerged_predictions"):
            return {"sem_seg": self._mean_scores(inputs)}
        views = self.model.unmerged_predictions(inputs)
        views[1::2] = map(Mirrored, views[1::2]) if self.flip else views[1::2]
        return mean_prediction(views, self.model.prediction_kind) | _mean_categories(views)

    def _views(self, item: dict) -> Iterator[dict]:
        """Inputs: every size, with flip each followed by its horizontal flip."""
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
        """Mean scores (T, H, W)."""
        total = None
        for number, item in enumerate(inputs):
            scores = self.model([item])[0]["sem_seg"]
            scores = scores.flip(-1) if self.flip and number % 2 else scores
            total = scores if total is None else total.add_(scores)
        return total / len(inputs)


def _mean_categories(views: Sequence[UnmergedPrediction]) -> dict[str, Tensor]:
    """What RankSeg says of the whole image."""
    if views[0].category_scores is None:
        return {}
    scores = torch.stack([view.category_scores for view in views]).mean(dim=0)
    ids = select_top(scores[None], len(views[0].classes))[0]
    return {"category_scores": scores, "category_ids": ids}
