"""Log multi-label classification scores on the training images during training.

Compared with the same scores of an evaluation they show over-fitting, which RankSeg (ECCV 2022,
appendix H) counters with a lower learning rate and loss weight of the multi-label head.
"""

import math
from collections import deque

import torch
from detectron2.engine import HookBase
from torch import nn

from segcore.evaluation.multilabel import TOP, multilabel_scores


class CategoryScores(HookBase):
    """Log ``train_multilabel/mAP``, ``.../recall@k`` and so on over the last images.

    These are at most the last ``window`` images of this process since the run started or resumed.
    """

    def __init__(
        self, model: nn.Module, kappa: int, *, period: int = 20, window: int = 512
    ) -> None:
        """
        Args:
            model: its ``category_predictions`` holds those of the last training batch: logits
                (B, C) and the classes that are present, (B, C) bool; None without such a head.
            kappa: log the recall of the top ``kappa`` classes besides the usual numbers; 0 = none.
            period: iterations from one log entry to the next.
            window: number of images.
        """
        self.model, self.period, self.window = model, period, window
        self.top = sorted({*TOP, kappa} - {0})
        self.predictions: deque[tuple[torch.Tensor, torch.Tensor]] = deque()

    def after_step(self) -> None:
        if self.model.category_predictions is None:
            return
        self.predictions.append(self.model.category_predictions)
        while sum(len(logits) for logits, _ in self.predictions) > self.window:
            self.predictions.popleft()
        done = self.trainer.iter + 1
        if self.predictions and (done % self.period == 0 or done == self.trainer.max_iter):
            self._log()

    def _log(self) -> None:
        logits, present = (torch.cat(part).cpu() for part in zip(*self.predictions, strict=True))
        for name, score in multilabel_scores(logits.float(), present, self.top).items():
            # Precision is low where images hold few classes; recall without any class is NaN.
            if not name.startswith("precision") and math.isfinite(score):
                self.trainer.storage.put_scalar(
                    f"train_multilabel/{name}", score, smoothing_hint=False
                )
