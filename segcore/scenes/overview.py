"""What a split on disk holds: class counts, and a sheet of its first pictures.

python -m segcore.scenes.overview datasets/scenes-60/test --sheet docs/images/scenes.png
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from segcore.errors import UserError, exit_on_user_error
from segcore.images import read_image, read_labels
from segcore.visualize import color_map
from segcore.vocabulary import Vocabulary

COLUMNS, ROWS = 8, 2


def summarize(label_paths: list[Path], vocabulary: Vocabulary) -> str:
    """Lines about classes per picture, pictures per class, seen and unseen."""
    areas = np.stack(
        [np.bincount(read_labels(path).ravel(), minlength=len(vocabulary)) for path in label_paths]
    )  # (pictures, classes)
    present = areas > 0
    things, seen = np.array(vocabulary.isthing), np.array(vocabulary.seen)
    lines = [f"{len(areas)} pictures"]
    counts = np.bincount(present.sum(axis=1))
    for number in np.flatnonzero(counts):
        lines.append(f"  {counts[number] / len(areas):6.1%} hold {number} of {len(seen)} classes")
    lines.append(f"  {present[:, ~seen].any(axis=1).mean():6.1%} hold an unseen class")
    for title, chosen in (
        ("grounds", ~things),
        ("seen objects", things & seen),
        ("unseen objects", things & ~seen),
    ):
        pictures = present.sum(axis=0)[chosen]
        share = areas[:, chosen].sum() / areas.sum()
        lines.append(
            f"{title}: {chosen.sum()} classes, {share:.1%} of the pixels, "
            f"each in {pictures.min()} to {pictures.max()} pictures"
        )
    return "\n".join(lines)


def contact_sheet(
    image_paths: list[Path], label_paths: list[Path], vocabulary: Vocabulary
) -> Image.Image:
    """The first pictures in rows, the labels of each row in legend colours below it.

    256 colours, so that the file stays small.
    """
    rows = []
    for start in range(0, COLUMNS * ROWS, COLUMNS):
        row = slice(start, start + COLUMNS)
        rows.append(np.concatenate([read_image(path) for path in image_paths[row]], axis=1))
        labels = np.concatenate([read_labels(path) for path in label_paths[row]], axis=1)
        rows.append(color_map(labels, vocabulary.colors))
    return Image.fromarray(np.concatenate(rows)).quantize(256, dither=Image.Dither.NONE)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="a split, such as datasets/scenes-60/test")
    parser.add_argument("--sheet", type=Path, help="write a sheet of pictures to this PNG file")
    arguments = parser.parse_args()
    image_paths, label_paths = (
        sorted((arguments.folder / kind).glob("*.png")) for kind in ("images", "labels")
    )
    if len(image_paths) != len(label_paths) or len(image_paths) < COLUMNS * ROWS:
        raise UserError(
            f"{arguments.folder} holds {len(image_paths)} pictures and {len(label_paths)} label "
            f"maps: draw at least {COLUMNS * ROWS} with datasets/prepare_scenes.py."
        )
    data_set = arguments.folder.resolve().parent.name  # scenes-60
    vocabulary = Vocabulary.registered(data_set.replace("-", "_"))
    print(summarize(label_paths, vocabulary))
    if arguments.sheet:
        arguments.sheet.parent.mkdir(parents=True, exist_ok=True)
        contact_sheet(image_paths, label_paths, vocabulary).save(arguments.sheet, optimize=True)
        print(f"wrote {arguments.sheet}")


if __name__ == "__main__":
    with exit_on_user_error():
        main()
