"""The dial: how many classes of a vocabulary are kept for an image, from one word or number."""

import re
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

from segcore.errors import UserError, printable

from .selection import confident_ranks, select_top

HOW = (
    "a number of classes from 1, such as 32; a probability between 0 and 1, such as 0.05; both, "
    "such as 32,0.05; or all"
)
MOST = 1_000_000  # classes


@dataclass(frozen=True)
class ClassesKept:
    """Which classes are kept: the most probable ones.

    Attributes:
        top: at most so many; 0 = any number.
        threshold: only those whose probability exceeds it, but always the most probable class; 0 =
            whatever their probability.
    """

    top: int = 0
    threshold: float = 0.0

    @classmethod
    def parse(cls, value: "Dial", name: str = "classes_kept") -> "ClassesKept":
        """Read a setting of the dial.

        Args:
            value: a number of classes, a probability, a text with one of them, with both and a
                comma between, or ``"all"``; or a :class:`ClassesKept`, which is returned.
            name: of the argument, for the error message.

        Raises:
            UserError: it is none of these.
        """
        if isinstance(value, cls):
            return value
        if str(value).strip() == "all":
            return cls()
        top, threshold = None, None
        for part in str(value).split(","):
            part = part.strip()
            if re.fullmatch("[0-9]{1,7}", part) and top is None and 1 <= int(part) <= MOST:
                top = int(part)
            elif threshold is None and (number := _probability(part)) is not None:
                threshold = number
            else:
                raise UserError(f"{name} is {printable(value)}: use {HOW}")
        return cls(top or 0, threshold or 0.0)

    def select(self, logits: Tensor) -> Tensor:
        """Return the ids (n,) of the kept classes, the most probable first, from logits (T,)."""
        ids = select_top(logits[None], min(self.top or len(logits), len(logits)))
        if not self.threshold:
            return ids[0]
        return ids[0, confident_ranks(logits[None], ids, self.threshold)[0]]


Dial: TypeAlias = int | float | str | ClassesKept


def _probability(text: str) -> float | None:
    """Return a number between 0 and 1, both exclusive, that is written with a point; else None."""
    if not re.fullmatch(r"[0-9]*\.[0-9]+(e-[0-9]{1,3})?|[0-9]+e-[0-9]{1,3}", text):
        return None
    return float(text) if 0 < float(text) < 1 else None
