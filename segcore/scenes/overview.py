"""Print class counts of a split or tracks of videos, and write contact sheets of their images.

python -m segcore.scenes.overview datasets/scenes-60/test --sheet docs/images/scenes.png
python -m segcore.scenes.overview datasets/scenes-60/videos --sheet docs/images/scenes_videos.png
"""

import argparse
import json
from itertools import groupby
from pathlib import Path

import numpy as np
from PIL import Image

from segcore.drawing.overlays import color_map
from segcore.errors import UserError, exit_on_user_error
from segcore.images import read_image, read_labels
from segcore.runtime.files import path_argument
from segcore.scenes.coco import DIVISOR, segment_ids
from segcore.vocabulary import Vocabulary, distinct_colors

COLUMNS, ROWS = 8, 2
VIDEOS = 4  # on their sheet


def summarize(label_paths: list[Path], vocabulary: Vocabulary) -> str:
    """Return lines about classes per image, images per class, seen and unseen."""
    areas = np.stack(
        [np.bincount(read_labels(path).ravel(), minlength=len(vocabulary)) for path in label_paths]
    )  # (images, classes)
    present = areas > 0
    things, seen = np.array(vocabulary.isthing), np.array(vocabulary.seen)
    numbers = present.sum(axis=1)
    lines = [f"{len(areas)} images, {numbers.mean():.2f} of {len(seen)} classes in each"]
    for number in np.unique(numbers):
        exactly, at_most = (numbers == number).mean(), (numbers <= number).mean()
        lines.append(f"  {exactly:6.1%} have {number} classes, {at_most:6.1%} at most {number}")
    lines.append(f"  {present[:, ~seen].any(axis=1).mean():6.1%} have an unseen class")
    for title, chosen in (
        ("grounds", ~things),
        ("seen objects", things & seen),
        ("unseen objects", things & ~seen),
    ):
        images = present.sum(axis=0)[chosen]
        fraction = areas[:, chosen].sum() / areas.sum()
        lines.append(
            f"{title}: {chosen.sum()} classes, {fraction:.1%} of the pixels, "
            f"each in {images.min()} to {images.max()} images"
        )
    return "\n".join(lines)


def summarize_videos(document: dict) -> str:
    """Return lines about the tracks of a YouTube-VIS file."""
    runs = [  # a track as [(visible, frames), ...]
        [(visible, len(list(frames))) for visible, frames in groupby(map(bool, track["areas"]))]
        for track in document["annotations"]
    ]
    number = max(len(runs), 1)
    lines = [
        f"{len(document['videos'])} videos of {document['videos'][0]['length']} frames, "
        f"{len(runs)} tracks"
    ]
    for title, count in (
        ("are visible in all frames", sum(len(run) == 1 for run in runs)),
        ("enter: not visible in the first frame", sum(not run[0][0] for run in runs)),
        ("leave: not visible in the last frame", sum(not run[-1][0] for run in runs)),
        ("are hidden in between", sum(any(not seen for seen, _ in run[1:-1]) for run in runs)),
    ):
        lines.append(f"  {count / number:6.1%} {title}")
    return "\n".join(lines)


def contact_sheet(folder: Path, vocabulary: Vocabulary) -> Image.Image:
    """Draw the first images of a split in rows; below each row its labels in legend colours and,
    if the split has them, its segments in one colour per object."""
    names = sorted(path.name for path in (folder / "images").glob("*.png"))
    rows = []
    for start in range(0, COLUMNS * ROWS, COLUMNS):
        row = names[start : start + COLUMNS]
        rows.append([read_image(folder / "images" / name) for name in row])
        rows.append(
            [color_map(read_labels(folder / "labels" / name), vocabulary.colors) for name in row]
        )
        if (folder / "panoptic").is_dir():
            rows.append([color_segments(read_image(folder / "panoptic" / name)) for name in row])
    return _sheet(rows)


def video_sheet(folder: Path, names: list[str]) -> Image.Image:
    """Draw frames of the first videos, each row followed by its segments."""
    rows = []
    for name in names[:VIDEOS]:
        frames = sorted(path.name for path in (folder / name / "origin").glob("*.png"))
        chosen = [frames[i] for i in np.linspace(0, len(frames) - 1, COLUMNS).astype(int)]
        rows.append([read_image(folder / name / "origin" / frame) for frame in chosen])
        rows.append(
            [color_segments(read_image(folder / name / "panoptic" / frame)) for frame in chosen]
        )
    return _sheet(rows)


def color_segments(panoptic: np.ndarray) -> np.ndarray:
    """Colour object n by the n-th of distinct colours, the ground grey; (H, W, 3) -> (H, W, 3)."""
    colors = np.array([(60, 60, 60), *distinct_colors(DIVISOR - 1)], dtype=np.uint8)
    return colors[segment_ids(panoptic) % DIVISOR]


def _sheet(rows: list[list[np.ndarray]]) -> Image.Image:
    """Concatenate rows of images, in 256 colours to keep the file small."""
    array = np.concatenate([np.concatenate(row, axis=1) for row in rows])
    return Image.fromarray(array).quantize(256, dither=Image.Dither.NONE)


def describe_split(folder: Path) -> tuple[str, Image.Image]:
    """Return counts and contact sheet of a split such as datasets/scenes-60/test."""
    images, labels = (sorted((folder / kind).glob("*.png")) for kind in ("images", "labels"))
    if len(images) != len(labels) or len(images) < COLUMNS * ROWS:
        raise UserError(
            f"{folder} holds {len(images)} images and {len(labels)} label maps: render at least "
            f"{COLUMNS * ROWS} with datasets/prepare_scenes.py."
        )
    data_set = folder.resolve().parent.name  # scenes-60
    vocabulary = Vocabulary.registered(data_set.replace("-", "_"))
    return summarize(labels, vocabulary), contact_sheet(folder, vocabulary)


def describe_videos(folder: Path) -> tuple[str, Image.Image]:
    """Return counts and contact sheet of the test videos in datasets/scenes-60/videos or alike."""
    names = (folder / "test.txt").read_text("utf-8").split()
    if len(names) < VIDEOS:
        raise UserError(
            f"{folder} holds {len(names)} test videos: render at least {VIDEOS} with "
            "datasets/prepare_scenes.py --num-videos."
        )
    document = json.loads((folder / "test.json").read_text("utf-8"))
    return summarize_videos(document), video_sheet(folder / "data", names)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=path_argument, help="a split, or the folder of the videos")
    parser.add_argument(
        "--sheet", type=path_argument, help="write a sheet of images to this PNG file"
    )
    arguments = parser.parse_args()
    has_videos = (arguments.folder / "test.txt").is_file()
    describe = describe_videos if has_videos else describe_split
    summary, sheet = describe(arguments.folder)
    print(summary)
    if arguments.sheet:
        arguments.sheet.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(arguments.sheet, optimize=True)
        print(f"wrote {arguments.sheet}")


if __name__ == "__main__":
    with exit_on_user_error():
        main()
