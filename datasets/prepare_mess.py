#!/usr/bin/env python3
"""Prepare data sets of MESS from downloads that were unpacked by hand.

    python datasets/prepare_mess.py                  all downloads that are there
    python datasets/prepare_mess.py suim deepcrack   these two

docs/mess.md lists the download of each, and the folder below <root> (<root> is
$DETECTRON2_DATASETS or "datasets") to unpack it to. The script writes beside the download, to
images_detectron2 and annotations_detectron2, like MESS's toolkit. Existing files are kept. At the
end all images and labels are checked. The names:

"""

import catrank.interrupts  # noqa: F401  before all that takes time to load

# isort: split

import argparse
import sys
from pathlib import Path

from segcore.datasets.mess import RECIPES, download_folder, prepare
from segcore.datasets.preparing import preparing_parser, run
from segcore.errors import UserError


def make_parser() -> argparse.ArgumentParser:
    parser = preparing_parser(__doc__ + "    " + "\n    ".join(RECIPES))
    parser.add_argument("names", nargs="*", metavar="name", help="default: all that are there")
    return parser


def prepare_all(root: Path, *, names: list[str], workers: int) -> None:
    """Prepare the named data sets, or those whose folder is there; print a line for each.

    Raises:
        UserError: a name is unknown, there is no download, or a download has errors.
    """
    for name in names:
        if name not in RECIPES:
            raise UserError(f"MESS has no set {name!r}: choose from {', '.join(RECIPES)}")
    names = names or [name for name in RECIPES if download_folder(name, root).is_dir()]
    if not names:
        raise UserError(f"{root} holds no download of MESS: docs/mess.md says what to put there")
    for name in names:
        prepared = prepare(name, root, workers=workers)
        maps = prepared.maps
        print(
            f"{maps.name}: {prepared.num_images} images, {len(prepared.classes)} of "
            f"{maps.num_values} classes occur",
            flush=True,
        )
        if prepared.num_images != maps.published:
            print(
                f"warning: {maps.name}: the benchmark has {maps.published} images: scores of "
                "another set of images are not comparable",
                file=sys.stderr,
            )


if __name__ == "__main__":
    run(prepare_all, make_parser())
