"""How well a model knows the classes of the images that it learns from, noted while it learns.

Beside the same scores of an evaluation this shows over-fitting, which RankSeg (ECCV 2022, appendix
H) meets with a lower rate and weight of the multi-label head.
"""

import math
from collections import deque

import torch
from detectron2.engine import HookBase
from torch import nn

from segcore.evaluation.multilabel import TOP, multilabel_scores


class CategoryScores(HookBase):
    """Notes ``train_multilabel/mAP``, ``.../recall@k`` and so on over the last images.

    Those are the images of this process since the run was started or resumed, at most ``window``.
    """

    def __init__(
        self, model: nn.Module, kappa: int, *, period: int = 20, window: int = 512
    ) -> None:
        """
        Args:
            model: leaves in ``category_predictions`` those of its last training batch: logits
                (B, C) and which classes are there, (B, C) bool; None where it has no such head.
            kappa: recall of so many of the likeliest classes is noted besides the usual numbers.
            period: iterations from note to note.
            window: images.
        """
        self.model, self.period, self.window = model, period, window
        self.top = sorted({*TOP, kappa})
        self.predictions: deque[tuple[torch.Tensor, torch.Tensor]] = deque()

    def after_step(self) -> None:
        if self.model.category_predictions is None:
            return
        self.predictions.append(self.model.category_predictions)
        while sum(len(logits) for logits, _ in self.predictions) > self.window:
            self.predictions.popleft()
        done = self.trainer.iter + 1
        if self.predictions and (done % self.period == 0 or done == self.trainer.max_iter):
            self._note()

    def _note(self) -> None:
        logits, present = (torch.cat(part).cpu() for part in zip(*self.predictions, strict=True))
        for name, score in multilabel_scores(logits.float(), present, self.top).items():
            # Precision is low wherever few classes are shown, and nothing is recalled of nothing.
            if not name.startswith("precision") and math.isfinite(score):
                self.trainer.storage.put_scalar(
                    f"train_multilabel/{name}", score, smoothing_hint=False
                )
