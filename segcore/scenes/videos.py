"""Write the videos of a Scenes data set, with VSPW's folders and YouTube-VIS's tracks.

::

    <root>/scenes-60/videos/scenes.json                        settings, and the hash of every split
    <root>/scenes-60/videos/train.txt                          the names of the videos, one a line
    <root>/scenes-60/videos/train.json                         tracks of the objects
    <root>/scenes-60/videos/train.tsv                          video, caption
    <root>/scenes-60/videos/data/train_0000/origin/00000.png   RGB
    <root>/scenes-60/videos/data/train_0000/mask/00000.png     class id + 1
    <root>/scenes-60/videos/data/train_0000/panoptic/00000.png segment ids, the same in every frame
    <root>/scenes-60/videos/test...                            the same
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from segcore.errors import UserError
from segcore.runtime.files import write_json, write_text
from segcore.runtime.processes import process_map
from segcore.scenes import coco, files
from segcore.scenes.catalogue import Catalogue
from segcore.scenes.motion import plan_video
from segcore.scenes.plan import Scene, caption
from segcore.scenes.render import Rendered
from segcore.scenes.writing import check_size_and_seed

GENERATOR = 1  # version, increased whenever the same settings render other videos
MOST_FRAMES = 1000


@dataclass(frozen=True)
class VideoSettings:
    """The settings of a folder of videos.

    Args:
        num_train: videos of the split "train", which have seen classes alone.
        num_test: videos of the split "test".
        num_frames: frames of each video, 2 to 1000.
        size: their width and height in pixels, 32 to 2048.
        seed: 0 to 2**64 - 1.
    """

    num_train: int
    num_test: int
    num_frames: int = 16
    size: int = 96
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.num_train, self.num_test) < 0:
            raise UserError("--num-videos: the numbers of videos must not be negative.")
        if not 2 <= self.num_frames <= MOST_FRAMES:
            raise UserError(
                f"--num-frames {self.num_frames}: choose a number from 2 to {MOST_FRAMES}."
            )
        check_size_and_seed(self.size, self.seed)

    @property
    def videos(self) -> dict[str, int]:
        """Number of videos of every split."""
        return {"train": self.num_train, "test": self.num_test}

    @property
    def fixed(self) -> dict[str, int]:
        """The settings that all videos of a folder have in common; their number may grow."""
        return {
            "generator": GENERATOR,
            "seed": self.seed,
            "size": self.size,
            "frames": self.num_frames,
        }


def write_videos(
    root: Path, catalogue: Catalogue, settings: VideoSettings, *, workers: int = 1
) -> dict[str, str]:
    """Write the missing videos of ``root / catalogue.name / "videos"``.

    Returns: for every split the SHA-256 of all frames, their labels and segments.

    Raises:
        UserError: the folder holds videos of other settings, or cannot be written.
    """
    folder = Path(root) / catalogue.name / "videos"
    record = partial(files.write_record, folder, settings.fixed, "videos", settings.videos)
    with files.writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        files.check_record(folder, settings.fixed, "videos", settings.videos)
        record({})
        hashes = {
            split: _write_split(folder, catalogue, settings, split, workers)
            for split in settings.videos
        }
        record(hashes)
    return hashes


def _write_split(
    folder: Path, catalogue: Catalogue, settings: VideoSettings, split: str, workers: int
) -> str:
    number = settings.videos[split]
    names = [f"{split}_{index:04d}" for index in range(number)]
    finish = partial(_finish_video, folder / "data", catalogue, settings, split)
    total = hashlib.sha256()
    captions, tracks = [], []
    with process_map(workers, items_at_once=1) as parallel_map:
        results = parallel_map(finish, list(enumerate(names)))
        for digest, text, its_tracks in tqdm(results, desc=f"{split} videos", total=number):
            total.update(digest)
            captions.append(text)
            tracks.append(its_tracks)
    write_text(folder / f"{split}.txt", "".join(f"{name}\n" for name in names))
    rows = list(zip(names, captions, strict=True))
    files.write_table(folder / f"{split}.tsv", ("video", "caption"), rows)
    write_json(folder / f"{split}.json", _document(catalogue, settings, names, tracks))
    return total.hexdigest()


def _finish_video(
    folder: Path,
    catalogue: Catalogue,
    settings: VideoSettings,
    split: str,
    numbered: tuple[int, str],
) -> tuple[bytes, str, list[dict]]:
    """Write the missing frames of a video, given by its index and name; return its hash, caption
    and tracks."""
    index, name = numbered
    scenes = plan_video(catalogue, settings.seed, split, index, settings.num_frames)
    parts = {
        "origin": _origin,
        "mask": partial(_mask, len(catalogue.classes)),
        "panoptic": coco.panoptic_image,
    }
    digest, ids = hashlib.sha256(), []
    with files.writing_to(folder / name):
        files.prepare(folder / name, list(parts))
        for scene in scenes:
            paths = {folder / name / kind / _file_name(scene.frame): parts[kind] for kind in parts}
            arrays = files.finish(scene, settings.size, paths)
            for array in arrays:
                digest.update(array.astype("<u2").tobytes())
            ids.append(coco.segment_ids(arrays[-1]))
    return digest.digest(), caption(scenes[0]), _describe_tracks(scenes[0], ids)


def _origin(image: Rendered) -> np.ndarray:
    return image.image


def _mask(num_classes: int, image: Rendered) -> np.ndarray:
    """Return class ids from 1, as in VSPW, where 0 is a pixel without a class."""
    return (image.labels + 1).astype(np.uint8 if num_classes < 255 else np.uint16)


def _describe_tracks(scene: Scene, ids: Sequence[np.ndarray]) -> list[dict]:
    """Return a track for every object of ``scene`` that is visible in any frame; ``ids`` are the
    frames' maps of segment ids."""
    frames = [
        {entry["id"] % coco.DIVISOR: entry for entry in coco.describe_objects(each, segments)}
        for each, segments in ((each, coco.describe_segments(each)) for each in ids)
    ]
    tracks = []
    for number, entry in enumerate(scene.objects, start=1):
        seen = [frame.get(number) for frame in frames]
        if any(seen):
            tracks.append(
                {
                    "category_id": entry.class_id + 1,
                    "iscrowd": 0,
                    "segmentations": [each and each["segmentation"] for each in seen],
                    "bboxes": [each and each["bbox"] for each in seen],
                    "areas": [each and each["area"] for each in seen],
                }
            )
    return tracks


def _document(
    catalogue: Catalogue,
    settings: VideoSettings,
    names: Sequence[str],
    tracks: Sequence[Sequence[dict]],
) -> dict:
    """Return the content of a YouTube-VIS file. Ids of videos, tracks and categories start at 1."""
    size = {"height": settings.size, "width": settings.size}
    frames = [_file_name(frame) for frame in range(settings.num_frames)]
    videos = [
        {
            "id": number,
            **size,
            "length": settings.num_frames,
            "file_names": [f"{name}/origin/{frame}" for frame in frames],
        }
        for number, name in enumerate(names, start=1)
    ]
    pairs = [(video, track) for video, each in zip(videos, tracks, strict=True) for track in each]
    annotations = [
        {"id": number, "video_id": video["id"], **size, **track}
        for number, (video, track) in enumerate(pairs, start=1)
    ]
    categories = [
        coco.describe_category(entry) | {"id": entry.id + 1} for entry in catalogue.objects
    ]
    return {"videos": videos, "annotations": annotations, "categories": categories}


def _file_name(frame: int) -> str:
    return f"{frame:05d}.png"
