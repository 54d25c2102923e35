"""Remarks on what is obviously nothing: images without content, one class in all results."""

from collections.abc import Iterator

import numpy as np
from predictor import Prediction

from segcore.vocabulary import Vocabulary

NEARLY = 3  # levels of 255: 16-bit images that hold 10 bits are black to the eye, too


def blank_color(image: np.ndarray) -> str | None:
    """Return "black" or "white" where an image (H, W, 3) uint8 is nothing else, else None."""
    if image.max() <= NEARLY:
        return "black"
    return "white" if image.min() >= 255 - NEARLY else None


class Remarks:
    """Looks at every result of a run, to say at the end whether they hold anything.

    Args:
        vocabulary: the classes of the results.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._names = vocabulary.label_names
        self._number = 0
        self._classes: set[int] = set()
        self._empty = 0  # results without a segment

    def add(self, prediction: Prediction) -> None:
        """Look at the result of one more image."""
        self._number += 1
        if prediction.segments is None:
            self._classes.update(np.unique(prediction.labels).tolist())
        else:
            self._classes.update(segment.class_id for segment in prediction.segments)
            self._empty += not prediction.segments

    def lines(self) -> Iterator[str]:
        """What to say of all results together; nothing of a single one."""
        if self._number < 2 or len(self._names) < 2:
            return
        if self._empty == self._number:
            yield f"nothing was found in any of {self._number} images"
        elif len(self._classes) == 1 and not self._empty:
            (only,) = self._classes
            yield (
                f"all {self._number} results hold {self._names[only]!r} and nothing else: see that "
                "the weights belong to the config and that the vocabulary is right"
            )
