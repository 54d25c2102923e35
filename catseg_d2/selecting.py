"""Select the classes of a crop that enter the aggregation: by cosine similarity or by ranking.

Shapes: T classes, K of them kept, P prompts a class, C joint embedding width, (h, w) the grid.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

from torch import Tensor

from segcore.rankseg.dial import ClassesKept

from .aggregator import cost_volume, select_classes, strongest_classes
from .ranking import ClassRanker


class Choice(NamedTuple):
    """The classes of a crop that enter its aggregation.

    Attributes:
        classes: ids (K,), ascending.
        ranks: (K,) int64 of these, 0 = the most probable one; None by cosine similarity.
        logits: (T,) of the presence of all classes; None by cosine similarity.
    """

    classes: Tensor
    ranks: Tensor | None = None
    logits: Tensor | None = None


@dataclass(frozen=True)
class Selector:
    """How the classes of a crop are selected.

    Attributes:
        kept: how many.
        head: ranks them; None: the highest cosine similarity anywhere in the crop does, and there
            is no threshold.
        per_image: the first view of an image, which shows it as a whole, selects for all its crops.
    """

    kept: ClassesKept
    head: ClassRanker | None = None
    per_image: bool = False

    def keeping(self, kept: ClassesKept) -> "Selector":
        """Return a selector that keeps other numbers of classes."""
        return replace(self, kept=kept)

    def limit(self, num_classes: int) -> int:
        """Return the largest number of kept classes of T."""
        return min(self.kept.top or num_classes, num_classes)

    def choose(self, features: Tensor, text: Tensor) -> tuple[Choice, Tensor]:
        """Select classes of a crop.

        Args:
            features: dense features (1, C, h, w).
            text: (T, P, C), unit-norm.
        Returns:
            the choice, and the cost volume (1, K, P, h, w) of its classes.
        """
        if self.head is None:
            cost = cost_volume(features, text)
            classes = strongest_classes(cost, self.limit(len(text)))
            return Choice(classes[0]), select_classes(cost, classes)
        logits = self.head(features, text)[0]
        classes, ranks = self.kept.select(logits).sort()
        choice = Choice(classes, ranks, logits)
        return choice, self.cost(features, text, choice)

    def cost(self, features: Tensor, text: Tensor, choice: Choice) -> Tensor:
        """Return the cost volume (1, K, P, h, w) of chosen classes; see :meth:`choose`."""
        return cost_volume(features, text[choice.classes])
