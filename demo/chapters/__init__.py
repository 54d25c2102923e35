"""What `make demo` shows: a chapter a model. Each is a module with

``STEPS``                its commands, in order;
``write(page, folder)``  its part of the page, from what these commands left in the folder.
"""

from dataclasses import dataclass
from pathlib import Path

OUTPUT = Path("output/demo")  # relative to the repository, where the commands run
DRAWN = OUTPUT / "datasets"
MODELS = Path("demo/models")


@dataclass(frozen=True)
class Outcome:
    """What a chapter has to say on the terminal.

    Attributes:
        lines: the scores.
        error: what is wrong with them, if anything.
    """

    lines: tuple[str, ...]
    error: str | None = None
