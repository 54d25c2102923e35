"""Build the output of a semantic model, a window and some classes at a time.

The scores (classes, height, width) take most of the memory of segmentation with a large vocabulary.
Callers that need labels alone avoid them: one pass over the classes finds the best class of every
pixel.

Shapes: T classes, t of them at a time, (H, W) the image, (h, w) a window of it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from segcore.errors import UserError
from segcore.inference.windows import Window

OUTPUTS = ("scores", "labels")


@dataclass(frozen=True)
class PredictionKind:
    """The requested output: ``TEST.SEM_SEG_OUTPUT`` and ``TEST.TOP_K``.

    Attributes:
        output: "scores", of every class, or "labels".
        top_k: number of top classes of a pixel to return with their scores; 0 = none.
    """

    output: str = "scores"
    top_k: int = 0

    def __post_init__(self) -> None:
        if self.output not in OUTPUTS:
            raise UserError(f"TEST.SEM_SEG_OUTPUT is {self.output!r}: use {' or '.join(OUTPUTS)}.")
        if self.top_k < 0:
            raise UserError(f"TEST.TOP_K is {self.top_k}: use a number of classes, 0 for none.")


SCORES = PredictionKind()


class SemanticPrediction:
    """Collect the scores of an image. Scores are at least 0; a class that is never added has 0."""

    def __init__(
        self, kind: PredictionKind, num_classes: int, size: tuple[int, int], device: torch.device
    ) -> None:
        """
        Args:
            kind: the output of :meth:`result`.
            num_classes: T.
            size: (H, W).
            device: of the scores.
        """
        self.kind, self.device = kind, device
        self._scores = self._best = None
        if kind.output == "scores":
            self._scores = torch.zeros(num_classes, *size, device=device)
        number = max(kind.top_k, int(kind.output == "labels"))
        if number:
            self._best = BestClasses(min(number, num_classes), num_classes, size, device)

    def order(self, classes: Tensor) -> Tensor:
        """Return the classes to add, ascending, if all but ``classes`` (t,) have score 0.

        The top k may include classes of score 0; ties go to the lower id.
        """
        return classes.unique() if self._best is None else self._best.order(classes)

    def add(self, window: Window, classes: Tensor, scores: Tensor) -> None:
        """Add scores (t, h, w) of ``classes`` (t,), ids ascending from call to call."""
        if self._scores is not None:
            window.of(self._scores)[classes] = scores
        if self._best is not None:
            self._best.add(window, classes, scores)

    def result(self) -> dict[str, Tensor]:
        """Return the requested output.

        Returns:
            "sem_seg" (T, H, W), or "sem_seg_labels" (H, W) int64, which equals its arg-max; with
            ``top_k`` also "top_k_scores" and "top_k_labels" (k, H, W), best first, ties to the
            lower id, where k is T if there are fewer classes.
        """
        prediction = {}
        if self._scores is not None:
            prediction["sem_seg"] = self._scores
        else:
            prediction["sem_seg_labels"] = self._best.labels[0]
        if self.kind.top_k:
            prediction["top_k_scores"] = self._best.scores
            prediction["top_k_labels"] = self._best.labels
        return prediction


class BestClasses:
    """The k best classes of every pixel so far, best first.

    Attributes:
        scores: (k, H, W), -inf where nothing was added.
        labels: (k, H, W) int64.
    """

    def __init__(
        self, k: int, num_classes: int, size: tuple[int, int], device: torch.device
    ) -> None:
        self.num_classes = num_classes
        self.scores = torch.full((k, *size), -torch.inf, device=device)
        self.labels = torch.zeros(k, *size, dtype=torch.long, device=device)

    def order(self, classes: Tensor) -> Tensor:
        """Return ``classes`` and the first k others, ascending: those may be among the top k."""
        others = torch.ones(self.num_classes, dtype=torch.bool, device=classes.device)
        others[classes] = False
        return torch.cat([classes, others.nonzero()[: len(self.scores), 0]]).unique()

    def add(self, window: Window, classes: Tensor, scores: Tensor) -> None:
        """Add scores (t, h, w) of ``classes`` (t,), ids ascending from call to call.

        A later class has the higher id, so it replaces an earlier one only with a higher score.
        """
        best, labels = window.of(self.scores), window.of(self.labels)
        if len(best) == 1:  # then only the best new class, the lowest id of equals, can pass
            scores, index = scores.max(dim=0, keepdim=True)
            classes = classes[index]
        for score, label in zip(scores, classes, strict=True):
            label = label.expand_as(score)
            passes = torch.zeros_like(score, dtype=torch.bool)
            for rank in range(len(best)):
                # A class that is displaced at one rank displaces the class at the next.
                passes = passes | (score > best[rank])
                best[rank], score = _swap(passes, best[rank], score)
                labels[rank], label = _swap(passes, labels[rank], label)


def _swap(where: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    return torch.where(where, b, a), torch.where(where, a, b)
