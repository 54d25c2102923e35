"""Scores of semantic segmentation, and the files that hold them."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segcore.drawing.page import Page


@dataclass(frozen=True)
class Scores:
    """mIoU in percent over the classes that training showed, and over those that it did not."""

    name: str
    seen: float
    unseen: float

    @property
    def harmonic(self) -> float:
        """The harmonic mean of the two."""
        return 2 * self.seen * self.unseen / max(self.seen + self.unseen, 1e-9)

    @property
    def rows(self) -> tuple[tuple[str, str, str], ...]:
        """Of the summary: model, metric, value."""
        return (
            (self.name, "mIoU, seen classes", f"{self.seen:.1f}"),
            (self.name, "mIoU, unseen classes", f"{self.unseen:.1f}"),
        )


def read_baseline(log: Path) -> Scores:
    """Read the scores that tools/nearest_colour.py printed."""
    printed = dict(re.findall(r"^(mIoU-\w+) +([\d.]+)$", log.read_text(), re.MULTILINE))
    return Scores("nearest mean colour", *(float(printed[f"mIoU-{k}"]) for k in ("seen", "unseen")))


def read_chance(log: Path) -> float:
    """Read the mIoU of a random class for every pixel that tools/nearest_colour.py printed."""
    return float(re.search(r"^chance, mIoU +([\d.]+)$", log.read_text(), re.MULTILINE)[1])


def read_semantic(evaluation: Path, data_set: str) -> dict[str, float]:
    """Read the scores that the evaluator of semantic segmentation wrote, in percent."""
    path = evaluation / "inference" / data_set / "sem_seg_evaluation.json"
    return json.loads(path.read_text())["scores"]


def read_model(name: str, evaluation: Path, data_set: str) -> Scores:
    """Read the scores of a model on seen and unseen classes."""
    scores = read_semantic(evaluation, data_set)
    return Scores(name, scores["mIoU-seen"], scores["mIoU-unseen"])


def write_table(
    page: Page, header: Sequence[str], rows: Sequence[tuple[str, Sequence[float]]]
) -> None:
    """Write a table of percentages; the best one of each column is marked, unless it is 0.

    Args:
        page: receives the table.
        header: of all columns; the first one holds names.
        rows: a name, and a number for each further column.
    """
    best = set()
    for column, values in enumerate(zip(*(numbers for _, numbers in rows), strict=True), 1):
        if (highest := max(values)) > 0:
            best.add((values.index(highest), column))
    cells = [[name, *(f"{number:.1f}" for number in numbers)] for name, numbers in rows]
    page.table(header, cells, best=best if len(rows) > 1 else ())
