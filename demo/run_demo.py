"""Show all methods in one command: `make demo`, or `python demo/run_demo.py`.

Generates small Scenes data sets, evaluates the very small models of demo/models on them, segments
images, photographs and videos, trains from scratch for a few seconds, and writes
output/demo/index.html. The output of each command is in output/demo/logs. Finished and unchanged
steps are skipped. Exit code 1: a model is no better than the nearest mean colour.
"""

import catrank.interrupts  # noqa: F401  before all that takes time to load

# isort: split

import argparse
import os
import sys
import time
from pathlib import Path

from chapters import (
    DATASETS,
    OUTPUT,
    Outcome,
    captions,
    datasets,
    dial,
    limits,
    many_classes,
    open_vocabulary,
    photographs,
    ranking,
    segments,
    videos,
)
from result_page import write_page
from steps import Steps

from segcore.engine.progress import describe_device
from segcore.errors import exit_on_user_error
from segcore.runtime.console import Console, duration, open_terminal

REPOSITORY = Path(__file__).resolve().parents[1]
CHAPTERS = (
    photographs,
    ranking,
    many_classes,
    open_vocabulary,
    dial,
    captions,
    segments,
    videos,
    limits,
)
STEPS = [
    *datasets.STEPS,
    *open_vocabulary.STEPS,
    *captions.STEPS,
    *(
        step
        for chapter in (ranking, many_classes, dial, segments, videos)
        for step in chapter.STEPS
    ),
    *photographs.STEPS,
    *limits.STEPS,
]


def run(console: Console) -> bool:
    """Run the steps that are not done yet and write the page.

    Args:
        console: shows steps and scores.

    Returns:
        whether the scores are as they should be.
    """
    start = time.monotonic()
    environment = {
        "DETECTRON2_DATASETS": str(REPOSITORY / DATASETS),
        # Waiting threads sleep: spinning, they slow down the others wherever cores are shared.
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
    }
    folder = REPOSITORY / OUTPUT
    console.header(
        "CatRank demo: very small models on synthetic images, and DeepLabv3 on photographs",
        {"device": describe_device("cpu"), "output": OUTPUT, "logs": OUTPUT / "logs"},
    )
    console.print()
    runner = Steps(folder, REPOSITORY, environment, console)
    if note := photographs.save_inputs(folder):
        console.print(note)
    width = max(len(step.title) for step in STEPS)
    for number, step in enumerate(STEPS, 1):
        runner.run(step, f"{number:2}/{len(STEPS)}  {step.title:{width}}")
    steps = [(step, runner.seconds[step.name]) for step in STEPS]
    page, outcomes = write_page(CHAPTERS, folder, steps)
    console.print()
    print_summary(console, outcomes)
    console.print(f"\nFinished in {duration(time.monotonic() - start)}. Open {page}")
    errors = [outcome.error for outcome in outcomes if outcome.error]
    for error in errors:
        print(f"error: {error}", file=sys.stderr)
    return not errors


def print_summary(console: Console, outcomes: list[Outcome]) -> None:
    """Print the scores of all chapters as a table."""
    rows = [row for outcome in outcomes for row in outcome.rows]
    width = max(len(metric) for _, metric, _ in rows)
    console.table(
        ["model", f"{'score in percent':{width}}", ""],
        [[model, f"{metric:{width}}", value] for model, metric, value in rows],
    )


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    with exit_on_user_error(": the same command continues"):
        succeeded = run(open_terminal())
    sys.exit(0 if succeeded else 1)


if __name__ == "__main__":
    main()
