"""The page of the demo: a chapter for each method, and how it was made."""

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from chapters import Outcome
from steps import Step

from segcore.drawing.page import Page


def write_page(
    chapters: Sequence[ModuleType], folder: Path, steps: Sequence[tuple[Step, float]]
) -> tuple[Path, list[Outcome]]:
    """Write index.html with its images.

    Args:
        chapters: see demo/chapters.
        folder: holds the results of their commands, and receives the page.
        steps: the commands, and the seconds that each took.

    Returns:
        the page, and the outcome of each chapter.
    """
    page = Page(folder, "CatRank: segmentation over large and open vocabularies")
    page.text(
        "CatRank labels every pixel of images and videos. This page shows a small model on "
        "photographs, and the methods of the papers on synthetic images, with very small models. "
        "All come with the code: a CPU evaluated them and made all results in minutes."
    )
    page.contents()
    outcomes = [chapter.write(page, folder) for chapter in chapters]
    page.heading("How it was made")
    minutes = sum(seconds for _, seconds in steps) / 60
    page.text(f"make demo ran {len(steps)} commands in {minutes:.1f} minutes.")
    with page.folded("Commands and durations"):
        page.table(["step", "seconds"], [[step.title, f"{took:.0f}"] for step, took in steps])
        page.commands(
            ["export DETECTRON2_DATASETS=output/demo/datasets", *(step.line for step, _ in steps)]
        )
    return page.write(), outcomes
