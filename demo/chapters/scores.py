"""Scores beside those of the nearest mean colour, and where they are read from."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segcore.drawing.page import Page


@dataclass(frozen=True)
class Scores:
    """mIoU in percent over the classes that training saw, and over those that it did not."""

    name: str
    seen: float
    unseen: float

    @property
    def harmonic(self) -> float:
        """The harmonic mean of the two."""
        return 2 * self.seen * self.unseen / max(self.seen + self.unseen, 1e-9)

    @property
    def line(self) -> str:
        """For the terminal."""
        return (
            f"{self.name:28}  mIoU seen {self.seen:5.1f}  unseen {self.unseen:5.1f}"
            f"  harmonic {self.harmonic:5.1f}"
        )


def read_baseline(log: Path) -> Scores:
    """The scores that tools/nearest_colour.py printed."""
    printed = dict(re.findall(r"^(mIoU-\w+) +([\d.]+)$", log.read_text(), re.MULTILINE))
    return Scores("nearest mean colour", *(float(printed[f"mIoU-{k}"]) for k in ("seen", "unseen")))


def read_model(name: str, evaluation: Path, data_set: str) -> Scores:
    """The scores that the evaluator wrote."""
    path = evaluation / "inference" / data_set / "sem_seg_evaluation.json"
    scores = json.loads(path.read_text())["scores"]
    return Scores(name, scores["mIoU-seen"], scores["mIoU-unseen"])


def write_scores(page: Page, rows: Sequence[Scores], best: int | None) -> None:
    """A table of them."""
    cells = [[s.name, f"{s.seen:.1f}", f"{s.unseen:.1f}", f"{s.harmonic:.1f}"] for s in rows]
    page.table(["mIoU in percent", "seen", "unseen", "harmonic mean"], cells, best=best)
