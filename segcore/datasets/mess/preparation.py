"""Prepare a set of MESS, and check the result."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from segcore.datasets.label_maps import LabelMaps, stems
from segcore.datasets.mess.images import num_tiles, tiles
from segcore.datasets.mess.recipes import RECIPES, Recipe
from segcore.datasets.mess.sources import Source, check_stems
from segcore.datasets.preparing import for_all, write_image
from segcore.errors import UserError
from segcore.images import read_header, read_labels
from segcore.vocabulary import vocabulary_table


@dataclass(frozen=True)
class Summary:
    """A prepared set.

    Attributes:
        maps: its folders, and the published number of images.
        num_images: number of images with labels.
        classes: ids of the classes in the labels.
    """

    maps: LabelMaps
    num_images: int
    classes: frozenset[int]


def label_maps(name: str, root: Path) -> LabelMaps:
    """Return the folders of the images and labels of one of the ``RECIPES``."""
    (dataset,) = vocabulary_table(f"mess_{name}")["datasets"]
    return LabelMaps.of(dataset, root)


def download_folder(name: str, root: Path) -> Path:
    """Return the folder of the download."""
    return root / label_maps(name, root).image_folder.relative_to(root).parts[0]


def prepare(name: str, root: Path, *, workers: int) -> Summary:
    """Write the missing files of a set, then check all of it.

    A complete set is only checked, so that it need not keep its download.

    Args:
        name: one of the ``RECIPES``.
        root: the folder of all data sets.
        workers: processes.

    Raises:
        UserError: files are missing or wrong, cannot be written, or contain no class at all.
    """
    recipe, maps, folder = RECIPES[name], label_maps(name, root), download_folder(name, root)
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}: unpack the download of {name} there")
    if recipe is not None and len(_pairs(maps)) != maps.published:
        sources = recipe.sources(folder)
        check_stems(sources)
        for_all(partial(convert, recipe, maps), sources, workers, name)
    return check(maps, workers=workers)


def convert(recipe: Recipe, maps: LabelMaps, source: Source) -> None:
    """Write the files of a source, unless all of them exist.

    Raises:
        UserError: a file of the source is missing or wrong.
    """
    names = _stems(recipe, source)
    if recipe.image is not None:
        images = [_image(maps, name) for name in names]
        if not _all_exist(images):
            _write(images, recipe.image(source.image), 0, recipe)
    labels = [maps.path(name) for name in names]
    if not _all_exist(labels):
        _write(labels, recipe.labels(source), maps.ignore_label, recipe)


def _stems(recipe: Recipe, source: Source) -> list[str]:
    if not recipe.tiled:
        return [source.stem]
    header = read_header(source.labels[0])
    return [f"{source.stem}_{i}" for i in range(num_tiles(header.height, header.width))]


def _image(maps: LabelMaps, stem: str) -> Path:
    return maps.image_folder / f"{stem}{maps.image_suffix}"


def _all_exist(paths: list[Path]) -> bool:
    return all(path.is_file() for path in paths)


def _write(paths: list[Path], pixels: np.ndarray, fill: int, recipe: Recipe) -> None:
    """Write an image, or its tiles.

    Raises:
        UserError: there are more or fewer tiles than paths.
    """
    parts: Iterator[np.ndarray] = iter([pixels])
    if recipe.tiled:
        if num_tiles(*pixels.shape[:2]) != len(paths):
            raise UserError(
                f"the image of {paths[0]} and its labels have different sizes: unpack them again"
            )
        parts = tiles(pixels, fill)
    for path, part in zip(paths, parts, strict=True):
        write_image(path, part)


def check(maps: LabelMaps, *, workers: int) -> Summary:
    """Check all pairs of a prepared set: sizes, and values of the labels.

    Raises:
        UserError: there is no pair, one is wrong, or the labels contain no class.
    """
    pairs = _pairs(maps)
    if not pairs:
        raise UserError(
            f"{maps.image_folder} has no image *{maps.image_suffix} with a label map of the same "
            f"name *{maps.suffix} in {maps.folder}: unpack the download there"
        )
    shown = for_all(partial(_shown, maps), pairs, workers, f"check {maps.name}")
    classes = frozenset().union(*shown)
    if not classes:
        raise UserError(f"no label map in {maps.folder} has a class: take the right download")
    return Summary(maps, len(pairs), classes)


def _pairs(maps: LabelMaps) -> list[str]:
    """Return the stems of the images that have labels, in order."""
    return sorted(stems(maps.image_folder, maps.image_suffix) & stems(maps.folder, maps.suffix))


def _shown(maps: LabelMaps, stem: str) -> set[int]:
    """Check a pair, and return the classes in its labels."""
    path, image = maps.path(stem), _image(maps, stem)
    labels, header = read_labels(path), read_header(image)
    upright = header.orientation < 5
    size = (header.height, header.width) if upright else (header.width, header.height)
    if labels.shape != size:
        raise UserError(
            f"the label map {path} has (height, width) {labels.shape}, but {image} has {size}: "
            "the two must agree"
        )
    maps.check(labels, path)
    return set(np.unique(labels).tolist()) - {maps.ignore_label}
