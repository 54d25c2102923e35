"""Report which registered data sets are on the disk, by their paths and counts, not contents."""

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
    """The files of a data set on the disk.

    Attributes:
        name: the registered one.
        group: its benchmark: the name of a vocabulary, or of a collection.
        unit: of the counts, ``"images"`` or ``"videos"``.
        found: number of those with all files that the data set reads.
        published: number in the benchmark; None for data sets of any size.
        lacking: missing files and folders, relative to the root.
    """

    name: str
    group: str
    unit: str
    found: int
    published: int | None
    lacking: tuple[str, ...]

    @property
    def state(self) -> str:
        """``"ready"``, ``"missing"``, or ``"other"`` if the number is not the published one."""
        if self.lacking or not self.found:
            return "missing"
        return "ready" if self.published in (None, self.found) else "other"


def all_statuses(root: Path) -> list[Status]:
    """Return the status of every data set that a vocabulary lists, in their order."""
    list_folder = cache(partial(_stems_below, root))  # several data sets share their folders
    return [
        _status(name, group_of(vocabulary), entry, root, list_folder)
        for vocabulary in registered_names()
        for name, entry in vocabulary_table(vocabulary).get("datasets", {}).items()
    ]


def group_of(vocabulary: str) -> str:
    """Return the name of a vocabulary's collection, or of the vocabulary if it has none."""
    return vocabulary_table(vocabulary).get("benchmark", {}).get("name", vocabulary)


def _status(
    name: str, group: str, entry: dict, root: Path, list_folder: Callable[[str, str], frozenset]
) -> Status:
    of_videos = "video_list" in entry or "track_json" in entry
    needed = [entry[key] for key in ("images", *LABEL_FOLDERS, *FILES) if key in entry]
    needed = [path.partition(VIDEO)[0].rstrip("/") for path in needed]  # of videos their parent
    lacking = tuple(dict.fromkeys(path for path in needed if not (root / path).exists()))
    if lacking:
        found = 0
    elif "video_list" in entry:
        found = _count_listed_videos(entry, root)
    elif "num_videos" in entry:  # published files of tracks take long to read
        found = sum(path.is_dir() for path in (root / entry["images"]).iterdir())
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
    """Return the number of videos in a file of tracks; 0 if it cannot be read."""
    try:
        return len(fields.entries(read_annotations(path), "videos", str(path)))
    except UserError:  # its reader raises the error when the data set is used
        return 0


def _count_listed_videos(entry: dict, root: Path) -> int:
    """Return the number of listed videos whose folders exist; 0 if the list cannot be read."""
    try:
        names = read_names(root / entry["video_list"])
    except UserError:  # its reader raises the error when the data set is used
        return 0
    patterns = [entry[key] for key in ("images", "labels") if key in entry]
    return sum(
        all((root / pattern.replace(VIDEO, name)).is_dir() for pattern in patterns)
        for name in names
    )
