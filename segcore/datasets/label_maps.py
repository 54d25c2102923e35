"""Write the label maps of a registered data set: valid ones are kept, missing ones are made, and
the result is compared with the published numbers."""

import functools
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from segcore.datasets.preparing import for_all, write_image
from segcore.errors import UserError, printable
from segcore.images import check_labels, read_labels
from segcore.runtime.files import join_inside
from segcore.vocabulary import registered_names, vocabulary_table

Item = TypeVar("Item")


@dataclass(frozen=True)
class LabelMaps:
    """The folder of a data set's label maps, and their valid values.

    Attributes:
        name: of the data set.
        folder, suffix: of the label maps.
        image_folder, image_suffix: of the images.
        num_values: stored values are 0 ... ``num_values`` - 1, or ``ignore_label``.
        ignore_label: of pixels without a class, as stored.
        published: number of images of the benchmark.
    """

    name: str
    folder: Path
    suffix: str
    image_folder: Path
    image_suffix: str
    num_values: int
    ignore_label: int
    published: int

    @classmethod
    def of(cls, name: str, root: Path, key: str = "labels") -> "LabelMaps":
        """Build from a data set that a vocabulary lists; ``key`` is the entry of the folder."""
        table = next(
            table
            for table in map(vocabulary_table, registered_names())
            if name in table.get("datasets", {})
        )
        entry = table["datasets"][name]
        num_classes = len(table["classes"])
        if "background" in table:  # the classes from this one on are one
            num_classes = table["background"]["first"] + 1
        first_label = entry.get("first_label", 0)  # stored value of class 0; smaller ones: no class
        return cls(
            name,
            root / entry[key],
            entry["label_suffix"],
            root / entry["images"],
            entry["image_suffix"],
            first_label + num_classes,
            0 if first_label else table["ignore_label"],
            entry["num_images"],
        )

    def path(self, stem: str) -> Path:
        """Return the label map of the image ``stem``, a path below the folder without suffix."""
        return join_inside(self.folder, f"{stem}{self.suffix}", self.name)

    def holds(self, stem: str) -> bool:
        """Return whether the label map exists, can be read, and has valid values only."""
        path = self.path(stem)
        try:
            if path.is_file():
                self.check(read_labels(path), path)
                return True
        except UserError:  # damaged, or of another preparation
            pass
        return False

    def check(self, labels: np.ndarray, source: Path) -> None:
        """Raise UserError, which names ``source``, for an invalid value in labels (H, W)."""
        check_labels(labels, self.num_values, self.ignore_label, source)


def make_label_maps(
    maps: LabelMaps,
    items: Mapping[str, Item],
    make: Callable[[Item], np.ndarray | None],
    workers: int,
) -> None:
    """Write the missing label maps, and print the number of all.

    Args:
        maps: their folder and valid values.
        items: stem of an image -> source of its label map.
        make: returns (H, W) uint8 or uint16 for a source, or None to leave the image out.
        workers: processes.

    Raises:
        UserError: something cannot be read or written, or a label is out of range.
    """
    made = for_all(functools.partial(_make, maps, make), items.items(), workers, maps.name)
    print(f"{maps.name}: {sum(made)} label maps in {maps.folder}")
    complete = {stem for stem, is_made in zip(items, made, strict=True) if is_made}
    for difference in _differences(maps, complete):
        print(f"warning: {maps.name}: {printable(difference)}", file=sys.stderr)


def _make(maps: LabelMaps, make: Callable, named: tuple[str, Item]) -> bool:
    """Make the label map of an image if missing; return whether the image has one now."""
    stem, item = named
    if maps.holds(stem):
        return True
    labels = make(item)
    if labels is None:
        return False
    maps.check(labels, maps.path(stem))
    write_image(maps.path(stem), labels)
    return True


def _differences(maps: LabelMaps, made: set[str]) -> list[str]:
    """Return the differences from the published data set, as warnings."""
    found = []
    if len(made) != maps.published:
        found.append(
            f"the benchmark has {maps.published} images, but there are {len(made)}: scores on "
            "another set of images are not comparable"
        )
    others = stems(maps.folder, maps.suffix) - made
    if others:
        found.append(
            f"{len(others)} label maps, such as {min(others)}{maps.suffix}, are not of this "
            "download: remove them, or they are evaluated too"
        )
    lacking = made - stems(maps.image_folder, maps.image_suffix)
    if lacking:
        found.append(
            f"{len(lacking)} label maps have no image in {maps.image_folder}: unpack the "
            "images there"
        )
    return found


def stems(folder: Path, suffix: str) -> set[str]:
    """Return the files *suffix of a folder and its subfolders, as paths below it without suffix.

    Hidden files, which some systems add, are left out; a missing folder has no files.
    """
    found = set()
    for parent, _, names in os.walk(folder):  # several times as fast as Path.rglob
        below = Path(parent).relative_to(folder).as_posix().removeprefix(".")
        for name in names:
            if name.endswith(suffix) and not name.startswith("."):
                found.add(f"{below}/{name.removesuffix(suffix)}".removeprefix("/"))
    return found
