"""What of the registered data sets is on the disk: places and counts, no content."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from segcore.annotations import fields, read_annotations
from segcore.datasets.label_maps import stems
from segcore.datasets.preparing import read_names
from segcore.datasets.video_semantic import VIDEO
from segcore.errors import UserError
from segcore.vocabulary import registered_names, vocabulary_table

FILES = ("panoptic_json", "instance_json", "captions", "track_json", "video_list")
LABEL_FOLDERS = ("labels", "semantic_labels")


@dataclass(frozen=True)
class Status:
    """What there is of a data set.

    Attributes:
        name: the registered one.
        group: the benchmark that it belongs to: the name of a vocabulary, or of a collection.
        unit: what is counted, ``"images"`` or ``"videos"``.
        found: how many have all files that the data set reads.
        published: how many the benchmark has; None where that is up to who makes it.
        lacking: files and folders that are not there, relative to the root.
    """

    name: str
    group: str
    unit: str
    found: int
    published: int | None
    lacking: tuple[str, ...]

    @property
    def state(self) -> str:
        """``"ready"``, ``"other"``, where the number is not the published one, or ``"missing"``."""
        if self.lacking or not self.found:
            return "missing"
        return "ready" if self.published in (None, self.found) else "other"


def all_statuses(root: Path) -> list[Status]:
    """One of every data set that a vocabulary lists, in order of the vocabularies."""
    list_folder = cache(partial(_stems_below, root))  # several data sets share their folders
    return [
        _status(name, group_of(vocabulary), entry, root, list_folder)
        for vocabulary in registered_names()
        for name, entry in vocabulary_table(vocabulary).get("datasets", {}).items()
    ]


def group_of(vocabulary: str) -> str:
    """The name of the collection that a vocabulary belongs to, or its own."""
    return vocabulary_table(vocabulary).get("benchmark", {}).get("name", vocabulary)


def _status(
    name: str, group: str, entry: dict, root: Path, list_folder: Callable[[str, str], frozenset]
) -> Status:
    of_videos = "video_list" in entry or "track_json" in entry
    needed = [entry[key] for key in ("images", *LABEL_FOLDERS, *FILES) if key in entry]
    needed = [place.partition(VIDEO)[0].rstrip("/") for place in needed]  # of videos their parent
    lacking = tuple(dict.fromkeys(place for place in needed if not (root / place).exists()))
    if lacking:
        found = 0
    elif "video_list" in entry:
        found = _count_listed_videos(entry, root)
    elif "num_videos" in entry:  # published files of tracks take long to read
        found = sum(place.is_dir() for place in (root / entry["images"]).iterdir())
    elif "track_json" in entry:
        found = _count_described_videos(root / entry["track_json"])
    else:
        folders = [(entry[key], "label_suffix") for key in LABEL_FOLDERS if key in entry]
        found = len(
            frozenset.intersection(
                *(
                    list_folder(folder, entry.get(suffix, ""))
                    for folder, suffix in [(entry["images"], "image_suffix"), *folders]
                )
            )
        )
    published = entry.get("num_videos" if of_videos else "num_images")
    return Status(name, group, "videos" if of_videos else "images", found, published, lacking)


def _stems_below(root: Path, folder: str, suffix: str) -> frozenset[str]:
    return frozenset(stems(root / folder, suffix))


def _count_described_videos(path: Path) -> int:
    """How many videos a file of tracks describes."""
    try:
        return len(fields.entries(read_annotations(path), "videos", str(path)))
    except UserError:  # as below
        return 0


def _count_listed_videos(entry: dict, root: Path) -> int:
    """How many videos of a list have their folders."""
    try:
        names = read_names(root / entry["video_list"])
    except UserError:  # who uses it is told what is wrong with it
        return 0
    patterns = [entry[key] for key in ("images", "labels") if key in entry]
    return sum(
        all((root / pattern.replace(VIDEO, name)).is_dir() for pattern in patterns)
        for name in names
    )
