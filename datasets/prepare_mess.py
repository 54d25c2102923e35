#!/usr/bin/env python3
"""Prepare data sets of MESS, from downloads that were unpacked by hand.

    python datasets/prepare_mess.py                  all that are there
    python datasets/prepare_mess.py suim deepcrack   these

docs/mess.md says where to download each and where to unpack it. What is written lies beside the
download, in the folders images_detectron2 and annotations_detectron2, and is what the toolkit of
MESS writes. Started again, it goes on where it was. At the end all pictures and labels are looked
at. Names:

"""

import argparse
import sys
from pathlib import Path

from segcore.datasets.mess import RECIPES, Place, Summary, prepare
from segcore.datasets.preparing import preparing_parser
from segcore.errors import UserError, exit_on_user_error


def parse_arguments() -> argparse.Namespace:
    parser = preparing_parser(__doc__ + "    " + "\n    ".join(RECIPES))
    parser.add_argument("names", nargs="*", metavar="name", help="default: all that are there")
    return parser.parse_args()


def chosen(names: list[str], root: Path) -> list[str]:
    """The sets to prepare: those named, or those whose folder is there.

    Raises:
        UserError: a name is none, or no folder is there.
    """
    for name in names:
        if name not in RECIPES:
            raise UserError(f"MESS has no set {name!r}: choose from {', '.join(RECIPES)}")
    names = names or [name for name in RECIPES if Place.of(name, root).folder.is_dir()]
    if not names:
        raise UserError(f"{root} holds no download of MESS: docs/mess.md says what to put there")
    return names


def describe(summary: Summary) -> str:
    """One line."""
    place = summary.place
    return (
        f"{place.dataset}: {summary.num_images} of {place.num_images} pictures, "
        f"{len(summary.classes)} of {place.num_classes} classes occur"
    )


def main() -> None:
    arguments = parse_arguments()
    summaries = []
    for name in chosen(arguments.names, arguments.root):
        summaries.append(prepare(name, arguments.root, workers=arguments.workers))
        print(describe(summaries[-1]), flush=True)
    wrong = [summary for summary in summaries if not summary.complete]
    if wrong:
        raise UserError(f"unlike the benchmark: {'; '.join(map(describe, wrong))}: unpack all")


if __name__ == "__main__":
    try:
        with exit_on_user_error():
            main()
    except KeyboardInterrupt:
        sys.exit("interrupted: start again")
