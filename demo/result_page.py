"""The page of the demo: a chapter a model, and how it was made."""

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from chapters import Outcome
from steps import Step

from segcore.drawing.page import Page


def write_page(
    chapters: Sequence[ModuleType], folder: Path, steps: Sequence[tuple[Step, float]]
) -> tuple[Path, list[Outcome]]:
    """Writes index.html with its images.

    Args:
        chapters: see demo/chapters.
        folder: where their commands have left their results, and where the page goes.
        steps: the commands, and the seconds that each took.

    Returns:
        the page, and what each chapter has to say.
    """
    page = Page(folder, "CatRank: very small models, trained from scratch")
    outcomes = [chapter.write(page, folder) for chapter in chapters]
    page.heading("How it was made")
    page.table(["step", "seconds"], [[step.title, f"{seconds:.0f}"] for step, seconds in steps])
    page.commands(
        ["export DETECTRON2_DATASETS=output/demo/datasets", *(step.line for step, _ in steps)]
    )
    return page.write(), outcomes
