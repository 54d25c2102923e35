"""The main job in one command: `make demo`, or `python demo/run_demo.py`.

Draws small Scenes data sets, evaluates the very small models of demo/models on them, lets them
segment drawings and photographs, and writes output/demo/index.html. Some seconds of training from
nothing show that it can. What is done and unchanged is not done again. Exit code 1: a model is no
better than the nearest mean colour.
"""

import catrank.interrupts  # noqa: F401  before all that takes time to load

# isort: split

import argparse
import os
import sys
import time
from pathlib import Path

from chapters import DRAWN, OUTPUT, categories, drawing, open_vocabulary, segments, videos
from result_page import write_page
from steps import Steps

from segcore.errors import exit_on_user_error

REPOSITORY = Path(__file__).resolve().parents[1]
CHAPTERS = (open_vocabulary, categories, segments, videos)
STEPS = [*drawing.STEPS, *(step for chapter in CHAPTERS for step in chapter.STEPS)]


def run() -> bool:
    """Runs what is not done yet, writes the page, tells the scores; whether they are as they should
    be."""
    start = time.monotonic()
    environment = {
        "DETECTRON2_DATASETS": str(REPOSITORY / DRAWN),
        # Threads that wait sleep: spinning, they slow down the others wherever cores are shared.
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
    }
    folder = REPOSITORY / OUTPUT
    runner = Steps(folder, REPOSITORY, environment)
    open_vocabulary.save_photographs(folder / "photographs")
    for number, step in enumerate(STEPS, 1):
        runner.run(step, f"{number}/{len(STEPS)}")
    steps = [(step, runner.seconds[step.name]) for step in STEPS]
    page, outcomes = write_page(CHAPTERS, folder, steps)
    for outcome in outcomes:
        print(*outcome.lines, sep="\n")
    print(f"{time.monotonic() - start:.0f} seconds; open {page}")
    errors = [outcome.error for outcome in outcomes if outcome.error]
    for error in errors:
        print(f"error: {error}", file=sys.stderr)
    return not errors


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    with exit_on_user_error(": the same command continues"):
        right = run()
    sys.exit(0 if right else 1)


if __name__ == "__main__":
    main()
