"""The label maps of a registered data set: written where they are missing, kept where they are
whole, and counted at the end."""

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
    """Where the label maps of a data set belong, and what they may hold.

    Attributes:
        name: of the data set.
        folder, suffix: of the label maps.
        image_folder, image_suffix: of the images.
        num_values: what is stored is 0 ... ``num_values`` - 1, or ``ignore_label``.
        ignore_label: of pixels without a class, as it is stored.
        published: how many images the benchmark has.
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
        """Those of a data set that a vocabulary lists; ``key`` is the entry of their folder."""
        table = next(
            table
            for table in map(vocabulary_table, registered_names())
            if name in table.get("datasets", {})
        )
        entry = table["datasets"][name]
        num_classes = len(table["classes"])
        if "background" in table:  # the classes from there on are one
            num_classes = table["background"]["first"] + 1
        first_label = entry.get("first_label", 0)  # what class 0 is stored as; below it is no class
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
        """The label map of the image ``stem``, a path below the folder without its ending."""
        return join_inside(self.folder, f"{stem}{self.suffix}", self.name)

    def holds(self, stem: str) -> bool:
        """Whether the label map is there, can be read, and has no value that it must not have."""
        path = self.path(stem)
        try:
            if path.is_file():
                self.check(read_labels(path), path)
                return True
        except UserError:  # damaged, or of another preparation
            pass
        return False

    def check(self, labels: np.ndarray, source: Path) -> None:
        """Refuse labels (H, W) with a value that they must not have; ``source`` is where it is."""
        check_labels(labels, self.num_values, self.ignore_label, source)


def make_label_maps(
    maps: LabelMaps,
    items: Mapping[str, Item],
    make: Callable[[Item], np.ndarray | None],
    workers: int,
) -> None:
    """Write the label maps that are not there yet, and tell how many there are in the end.

    Args:
        maps: where they belong.
        items: stem of an image -> what its label map is made of.
        make: makes (H, W) uint8 or uint16 of it, or None where the image is left out.
        workers: processes.

    Raises:
        UserError: something cannot be read or written, or a label is out of range.
    """
    made = for_all(functools.partial(_make, maps, make), items.items(), workers, maps.name)
    print(f"{maps.name}: {sum(made)} label maps in {maps.folder}")
    there = {stem for stem, is_made in zip(items, made, strict=True) if is_made}
    for sentence in _differences(maps, there):
        print(f"warning: {maps.name}: {printable(sentence)}", file=sys.stderr)


def _make(maps: LabelMaps, make: Callable, named: tuple[str, Item]) -> bool:
    """Whether the image has a label map now."""
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
    """What is not as it was published, in sentences."""
    found = []
    if len(made) != maps.published:
        found.append(
            f"the benchmark has {maps.published} images, here are {len(made)}: scores of another "
            "set of images are not comparable"
        )
    others = stems(maps.folder, maps.suffix) - made
    if others:
        found.append(
            f"{len(others)} label maps there, {min(others)}{maps.suffix} for one, are not of this "
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
    """The files *suffix of a folder and of the folders in it: paths below it without the suffix.

    Hidden files, which some systems add, are left out; a folder that is not there has no files.
    """
    found = set()
    for place, _, names in os.walk(folder):  # several times as fast as Path.rglob
        below = Path(place).relative_to(folder).as_posix().removeprefix(".")
        for name in names:
            if name.endswith(suffix) and not name.startswith("."):
                found.add(f"{below}/{name.removesuffix(suffix)}".removeprefix("/"))
    return found
