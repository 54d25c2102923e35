"""Check YouTube-VIS 2019 and 2021.

Checks, below <root> (which is $DETECTRON2_DATASETS or "datasets"),

    ytvis_{2019,2021}/{train,valid,test}.json                       videos; those of train, tracks
    ytvis_{2019,2021}/{train,valid,test}/JPEGImages/<video>/*.jpg   frames

Nothing is converted. A JSON file that lies beside its frames as instances.json, as in the archives
of 2021, is copied to its path above. Then the header of every frame and every outline is checked,
and videos and tracks are counted. A missing split is skipped.
"""

import shutil
import sys
from functools import partial
from pathlib import Path

from segcore.datasets.instance import category_ids
from segcore.datasets.preparing import for_all
from segcore.datasets.tracks import read_track_records
from segcore.errors import UserError
from segcore.runtime.files import replace
from segcore.videos import check_frame_size, frame_size
from segcore.vocabulary import Vocabulary, vocabulary_table

VOCABULARIES = ("youtubevis_2019_40", "youtubevis_2021_40")


def prepare(root: Path, *, workers: int) -> None:
    """Check the splits that are there.

    Raises:
        UserError: there is none, or a file is missing or wrong.
    """
    found = 0
    for vocabulary in VOCABULARIES:
        for name, entry in vocabulary_table(vocabulary)["datasets"].items():
            arrange(root / entry["images"], root / entry["track_json"])
            if (root / entry["track_json"]).is_file():
                check(root, name, entry, Vocabulary.registered(vocabulary), workers)
                found += 1
    if not found:
        raise UserError(f"there is no {root / 'ytvis_2019/train.json'}: unpack the download there")


def arrange(image_dir: Path, track_json: Path) -> None:
    """Copy the JSON file of a split to its path, if it lies beside the frames."""
    source = image_dir.parent / "instances.json"
    if source.is_file() and not track_json.is_file():
        replace(track_json, partial(shutil.copyfile, source))


def check(root: Path, name: str, entry: dict, vocabulary: Vocabulary, workers: int) -> None:
    """Check every video of a split, and print the numbers of videos, frames and tracks.

    Raises:
        UserError: the JSON file is wrong, or a frame is missing, damaged or of another size.
    """
    ids = category_ids(vocabulary)
    track_json = root / entry["track_json"]
    records = read_track_records(name, root / entry["images"], track_json, ids)
    tracks = for_all(check_video, records, workers, f"check {name}")
    frames = sum(record["length"] for record in records)
    print(f"{name}: {len(records)} videos, {frames} frames, {sum(tracks)} tracks in {track_json}")
    if len(records) != entry["num_videos"]:
        print(
            f"warning: {name}: the benchmark has {entry['num_videos']} videos: scores of others "
            "are not comparable",
            file=sys.stderr,
        )


def check_video(record: dict) -> int:
    """Check the frames of a video, and return the number of its tracks."""
    size, objects = (record["height"], record["width"]), record.get("frame_annotations", ())
    for path in record["file_names"]:
        check_frame_size(path, frame_size(path), size)
    return len({entry["id"] for frame in objects for entry in frame})
