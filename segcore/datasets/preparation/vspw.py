"""Prepare VSPW for semantic segmentation of videos.

Reads, below <root> (which is $DETECTRON2_DATASETS or "datasets"), the full release

    VSPW/{train,val,test}.txt                         names of videos, one per line
    VSPW/data/<video>/{origin/*.jpg,mask/*.png}       test has no masks

and writes the same files, with frames and masks resized to a height of 480 pixels, to

    VSPW_480p/...

Existing files are kept. The 480p release only has to be unpacked there; then nothing is written. At
the end every file of VSPW_480p is checked, and videos and frames are counted. A missing split is
skipped.
"""

import sys
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from segcore.datasets.preparing import find_files, for_all, write_image
from segcore.datasets.video_semantic import read_video_list, read_videos
from segcore.errors import UserError
from segcore.images import read_image, read_labels
from segcore.runtime.files import write_text
from segcore.videos import check_frame_size, frame_size, read_frame_labels
from segcore.vocabulary import vocabulary_table

TABLE = vocabulary_table("vspw_124")
HEIGHT = 480
QUALITY = 95  # of JPEG
SOURCE, TARGET = "VSPW", "VSPW_480p"


def prepare(root: Path, *, workers: int) -> None:
    """Resize the full release if it is there, and check the splits of the 480p release.

    Raises:
        UserError: there is no split, a file is missing or wrong, or one cannot be written.
    """
    for name, entry in TABLE["datasets"].items():
        video_list = root / SOURCE / Path(entry["video_list"]).name
        if video_list.is_file():
            videos = read_video_list(name, video_list)
            shrink = partial(shrink_video, root, "labels" in entry)
            for_all(shrink, videos, workers, name)
            write_text(root / entry["video_list"], "".join(f"{video}\n" for video in videos))
    splits = [name for name in TABLE["datasets"] if _path(root, name, "video_list").is_file()]
    if not splits:
        raise UserError(f"there is no {root / TARGET / 'val.txt'}: unpack the download there")
    for name in splits:
        check(root, name, workers)


def shrink_video(root: Path, has_labels: bool, video: str) -> None:
    """Write the missing frames and label maps of a video."""
    kinds = [("origin", ".jpg", shrink_frame), ("mask", ".png", shrink_labels)]
    for folder, suffix, shrink in kinds[: 1 + has_labels]:
        for path in find_files(root / SOURCE / "data" / video / folder, suffix):
            target = root / TARGET / "data" / video / folder / path.name
            if not target.is_file():
                shrink(path, target)


def shrink_frame(path: Path, target: Path) -> None:
    """Resize a frame bilinearly."""
    write_image(target, _shrunk(read_image(path), Image.Resampling.BILINEAR), quality=QUALITY)


def shrink_labels(path: Path, target: Path) -> None:
    """Resize a label map by nearest neighbour."""
    write_image(target, _shrunk(read_labels(path), Image.Resampling.NEAREST))


def _shrunk(pixels: np.ndarray, resample: Image.Resampling) -> np.ndarray:
    """Resize (H, W, ...) to ``HEIGHT``; the width keeps the proportion, rounded down."""
    height, width = pixels.shape[:2]
    size = (HEIGHT * width // height, HEIGHT)
    return np.asarray(Image.fromarray(pixels).resize(size, resample))


def check(root: Path, name: str, workers: int) -> None:
    """Check every file of a split, and print the numbers of videos and frames.

    Raises:
        UserError: a file is missing, damaged, of another size than its video, or no label map.
    """
    entry = TABLE["datasets"][name]
    labels = str(root / entry["labels"]) if "labels" in entry else None
    video_list = _path(root, name, "video_list")
    videos = read_videos(name, video_list, str(_path(root, name, "images")), labels)
    counts = for_all(check_video, videos, workers, f"check {name}")
    print(f"{name}: {len(counts)} videos, {sum(counts)} frames in {video_list.parent}")
    if (len(counts), sum(counts)) != (entry["num_videos"], entry["num_frames"]):
        print(
            f"warning: {name}: the benchmark has {entry['num_videos']} videos with "
            f"{entry['num_frames']} frames: scores of others are not comparable",
            file=sys.stderr,
        )


def check_video(video: dict) -> int:
    """Check all frames of a video, and return their number."""
    size = (video["height"], video["width"])
    for path in video["file_names"]:
        check_frame_size(path, frame_size(path), size)
    for path in video.get("sem_seg_file_names", ()):
        read_frame_labels(path, size, len(TABLE["classes"]), TABLE["ignore_label"])
    return video["length"]


def _path(root: Path, name: str, key: str) -> Path:
    return root / TABLE["datasets"][name][key]
