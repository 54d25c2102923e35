"""Warnings about inputs and results that hold nothing: blank images, one class everywhere."""

from collections.abc import Iterator

import numpy as np

from catrank import Result
from segcore.vocabulary import Vocabulary

TOLERANCE = 3  # levels of 255: 16-bit images that hold 10 bits are black to the eye, too


def blank_color(image: np.ndarray) -> str | None:
    """Return "black" or "white" where an image (H, W, 3) uint8 is nothing else, else None."""
    if image.max() <= TOLERANCE:
        return "black"
    return "white" if image.min() >= 255 - TOLERANCE else None


class ResultChecks:
    """Collects the predictions of a run, to warn at its end where they are all empty or equal.

    Args:
        vocabulary: the classes of the predictions.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._names = vocabulary.label_names
        self._count = 0
        self._classes: set[int] = set()
        self._empty = 0  # predictions without a segment

    def add(self, result: Result) -> None:
        """Add the result of one more image."""
        self._count += 1
        self._classes.update(segment.class_id for segment in result.segments)
        self._empty += not result.segments

    def warnings(self) -> Iterator[str]:
        """Yield warnings about all predictions together; none about a single one."""
        if self._count < 2 or len(self._names) < 2:
            return
        if self._empty == self._count:
            yield f"no segment was found in any of {self._count} images"
        elif len(self._classes) == 1 and not self._empty:
            (only,) = self._classes
            yield (
                f"all {self._count} results hold {self._names[only]!r} and nothing else: check "
                "that the weights belong to the config and that the vocabulary is right"
            )
