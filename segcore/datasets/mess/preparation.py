"""Prepare a set of MESS, and check what came out."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from segcore import files
from segcore.datasets.mess.labels import IGNORED
from segcore.datasets.mess.pictures import num_tiles, tiles
from segcore.datasets.mess.recipes import RECIPES, Recipe
from segcore.datasets.mess.sources import Source, check_stems
from segcore.datasets.preparing import for_all
from segcore.datasets.semantic import read_pairs
from segcore.errors import UserError
from segcore.images import check_labels, read_header, read_labels
from segcore.vocabulary import vocabulary_table

FORMATS = {".jpg": "JPEG", ".png": "PNG"}


@dataclass(frozen=True)
class Place:
    """Where a registered set lies, and how large it is.

    Attributes:
        dataset: its registered name.
        folder: that of the download, which the others are below.
        images, labels: folders.
        image_suffix, label_suffix: how the files' names end.
        num_images, num_classes: as published.
    """

    dataset: str
    folder: Path
    images: Path
    labels: Path
    image_suffix: str
    label_suffix: str
    num_images: int
    num_classes: int

    @classmethod
    def of(cls, name: str, root: Path) -> "Place":
        """Of one of the ``RECIPES``, below the folder of all data sets."""
        table = vocabulary_table(f"mess_{name}")
        ((dataset, entry),) = table["datasets"].items()
        return cls(
            dataset,
            root / Path(entry["images"]).parts[0],
            root / entry["images"],
            root / entry["labels"],
            entry["image_suffix"],
            entry["label_suffix"],
            entry["num_images"],
            len(table["classes"]),
        )

    def pairs(self) -> list[dict]:
        """The dataset dicts of what is there; none where the folders are missing or empty."""
        try:
            return read_pairs(
                self.dataset, self.images, self.labels, self.image_suffix, self.label_suffix
            )
        except UserError:
            return []


@dataclass(frozen=True)
class Summary:
    """What a set turned out to hold.

    Attributes:
        place: of the set.
        num_images: of pictures with labels.
        classes: ids of those that the labels show.
    """

    place: Place
    num_images: int
    classes: frozenset[int]

    @property
    def complete(self) -> bool:
        """Whether it has as many pictures as published."""
        return self.num_images == self.place.num_images


def prepare(name: str, root: Path, *, workers: int) -> Summary:
    """Write what is missing of a set, then look at all of it.

    A set that is complete is only looked at, so that it need not keep its download.

    Args:
        name: one of the ``RECIPES``.
        root: the folder of all data sets.
        workers: processes.

    Raises:
        UserError: files are missing or wrong, cannot be written, or show no class at all.
    """
    recipe, place = RECIPES[name], Place.of(name, root)
    if not place.folder.is_dir():
        raise UserError(f"there is no folder {place.folder}: unpack the download of {name} there")
    if recipe is not None and len(place.pairs()) != place.num_images:
        sources = recipe.sources(place.folder)
        check_stems(sources)
        for_all(partial(convert, recipe, place), sources, workers, name)
    return check(place, workers=workers)


def convert(recipe: Recipe, place: Place, source: Source) -> None:
    """Write the files that a source becomes, unless all of them are there.

    Raises:
        UserError: a file of the source is missing or wrong.
    """
    stems = _stems(recipe, source)
    images = [place.images / f"{stem}{place.image_suffix}" for stem in stems]
    labels = [place.labels / f"{stem}{place.label_suffix}" for stem in stems]
    if recipe.image is not None and not _all_exist(images):
        _write(images, recipe.image(source.image), 0, recipe.tiled)
    if not _all_exist(labels):
        _write(labels, recipe.labels(source), IGNORED, recipe.tiled)


def _stems(recipe: Recipe, source: Source) -> list[str]:
    if not recipe.tiled:
        return [source.stem]
    header = read_header(source.labels[0])
    return [f"{source.stem}_{i}" for i in range(num_tiles(header.height, header.width))]


def _all_exist(paths: list[Path]) -> bool:
    return all(path.is_file() for path in paths)


def _write(paths: list[Path], pixels: np.ndarray, fill: int, tiled: bool) -> None:
    """One picture, or its tiles."""
    paths[0].parent.mkdir(parents=True, exist_ok=True)
    for path, part in zip(paths, tiles(pixels, fill) if tiled else [pixels], strict=True):
        save = partial(Image.fromarray(part).save, format=FORMATS[path.suffix])
        files.replace(path, save)


def check(place: Place, *, workers: int) -> Summary:
    """Look at all pairs of a prepared set: sizes, and values of the labels.

    Raises:
        UserError: there is no pair, one is wrong, or the labels show no class.
    """
    pairs = place.pairs()
    if not pairs:
        raise UserError(
            f"{place.images} has no picture *{place.image_suffix} with a label map of the same "
            f"name *{place.label_suffix} in {place.labels}: unpack the download in {place.folder}"
        )
    shown = for_all(partial(check_pair, place.num_classes), pairs, workers, f"{place.dataset}?")
    classes = frozenset().union(*shown)
    if not classes:
        raise UserError(f"no label map in {place.labels} shows a class: take the right download")
    return Summary(place, len(pairs), classes)


def check_pair(num_classes: int, pair: dict) -> set[int]:
    """The classes that a label map shows.

    Raises:
        UserError: it does not fit its picture, or has a value that is no class.
    """
    labels, header = read_labels(pair["sem_seg_file_name"]), read_header(pair["file_name"])
    upright = header.orientation < 5
    size = (header.height, header.width) if upright else (header.width, header.height)
    if labels.shape != size:
        raise UserError(
            f"the label map {pair['sem_seg_file_name']} has (height, width) {labels.shape}, but "
            f"{pair['file_name']} has {size}: the two must agree"
        )
    check_labels(labels, num_classes, IGNORED, pair["sem_seg_file_name"])
    return set(np.unique(labels).tolist()) - {IGNORED}
