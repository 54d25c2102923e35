"""The chapters of `make demo`, one for each method. Each is a module with

``STEPS``                its commands, in order;
``write(page, folder)``  its part of the page, from the results of these commands in the folder.
"""

from dataclasses import dataclass
from pathlib import Path

OUTPUT = Path("output/demo")  # relative to the repository, where the commands run
DATASETS = OUTPUT / "datasets"
MODELS = Path("demo/models")


@dataclass(frozen=True)
class Outcome:
    """The scores of a chapter.

    Attributes:
        rows: of the summary: model, metric, value.
        error: what is wrong with the scores, if anything.
    """

    rows: tuple[tuple[str, str, str], ...]
    error: str | None = None
