"""What every format of annotations holds of an image: masks with their classes."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Annotation:
    """A segment of an image, as tools for annotations understand it.

    Attributes:
        number: its id in the image, or in the video where it is tracked.
        class_id: index in the class names.
        name: of the class.
        mask: (H, W) bool, not empty.
        is_object: one of several that may be there, and not all of its class.
        score: 0 to 1; None where the model gives none.
    """

    number: int
    class_id: int
    name: str
    mask: np.ndarray
    is_object: bool = True
    score: float | None = None


def unicode_text(text: str) -> str:
    """Return a text that UTF-8 can hold: names of files may hold other bytes."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
