"""Prepare COCO+LVIS, 1,284 classes, for semantic segmentation.

Reads, below <root> ($DETECTRON2_DATASETS or "datasets"),

    lvis/annotations/lvis_v1_{train,val}.json       LVIS v1
    lvis/annotations/stuff_{train,val}2017.json     stuff_annotations_trainval2017.zip of COCO
    coco/{train,val}2017/*.jpg                      the images of COCO 2017

and writes

    lvis/lvis_mask/{train,val}2017/*.png            16 bits: 0 = no class, else class id + 1
    lvis/images/{train,val}2017/*.jpg               links to the images

for the splits of LVIS, whose val has images of COCO's train too. LVIS's objects cover COCO's stuff;
of two overlapping objects, or stuff regions, the first one stays. Images with neither are left out.
Complete files are kept. A split whose download is missing is skipped.
Known issue of the published script: it renames ids of stuff in place, some of them twice: "blanket"
becomes "desk-stuff". coco_lvis_{train,val}_published read its masks from lvis_mask_published, where
--published writes masks with this issue.
"""

from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from segcore.annotations import read_annotations
from segcore.datasets.label_maps import LabelMaps, make_label_maps
from segcore.datasets.preparing import check_name, label_table, link, relabel
from segcore.errors import UserError
from segcore.images import MAX_PIXELS
from segcore.outlines import draw_outline
from segcore.vocabulary import vocabulary_table

SPLITS = ("train", "val")  # of LVIS
COCO_SPLITS = ("train2017", "val2017")
CLASSES = vocabulary_table("coco_lvis_1284")["classes"]
OBJECTS = {entry["lvis_id"] for entry in CLASSES if "lvis_id" in entry}
STUFF = {
    entry["coco_stuff_id"]: id + 1 for id, entry in enumerate(CLASSES) if "coco_stuff_id" in entry
}


class Image(NamedTuple):
    """An image of LVIS.

    ``coco_split`` is its folder; ``objects`` and ``stuff`` are pairs of a category and its polygons
    or RLE, in the order of their files.
    """

    file_name: str
    coco_split: str
    size: tuple[int, int]  # height, width
    objects: list[tuple[int, object]]
    stuff: list[tuple[int, object]]


def prepare(root: Path, *, published: bool, workers: int) -> None:
    """Write the label maps of the splits that are there.

    Raises:
        UserError: there is none, a file is missing or wrong, or one cannot be written.
    """
    folder = root / "lvis/annotations"
    sources = {split: folder / f"lvis_v1_{split}.json" for split in SPLITS}
    there = {split: path for split, path in sources.items() if path.is_file()}
    if not there:
        raise UserError(f"there is no {sources['val']}: unpack the download there")
    table = label_table(renamed_twice(STUFF) if published else STUFF, ignore_label=0)
    for split, path in there.items():
        maps = LabelMaps.of(f"coco_lvis_{split}" + "_published" * published, root)
        images = read_images(path, folder)
        for image in images.values():
            name = image.file_name
            link(root / "coco" / image.coco_split / name, maps.image_folder / name)
        make_label_maps(maps, images, partial(convert, table), workers)


def renamed_twice(values: Mapping[int, int]) -> dict[int, int]:
    """Return the mapping that results from renaming ids in place in ascending order.

    A new value that equals a later id is renamed again.
    """
    found = {}
    for id, value in values.items():
        turn = id
        while value in values and value > turn:
            turn, value = value, values[value]
        found[id] = value
    return found


def read_images(lvis_file: Path, folder: Path) -> dict[str, Image]:
    """Return {stem: image} of the images with an object or stuff; stuff is from COCO's files.

    Raises:
        UserError: a file is missing or has another format.
    """
    content = read_annotations(lvis_file)
    try:
        listed = {entry["id"]: entry for entry in content["images"]}
        objects = group(content["annotations"], listed)
        images = {}
        for id, entry in listed.items():
            *_, coco_split, name = PurePosixPath(entry["coco_url"]).parts
            size = (int(entry["height"]), int(entry["width"]))
            if coco_split not in COCO_SPLITS or min(size) < 1 or size[0] * size[1] > MAX_PIXELS:
                raise ValueError(f"image {id}")
            name = check_name(name, lvis_file)
            images[id] = Image(name, coco_split, size, objects[id], [])
    except UserError:
        raise
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{lvis_file} is no annotation file of LVIS v1: {error!r}") from error
    for coco_split in sorted({image.coco_split for image in images.values()}):
        add_stuff(folder / f"stuff_{coco_split}.json", coco_split, images)
    return {Path(p.file_name).stem: p for p in images.values() if p.objects or p.stuff}


def add_stuff(path: Path, coco_split: str, images: Mapping[int, Image]) -> None:
    """Add the stuff of COCO's file to the images of its split.

    Raises:
        UserError: the file is missing or has another format.
    """
    content = read_annotations(path)
    wanted = {id for id, image in images.items() if image.coco_split == coco_split}
    try:
        for id, found in group(content["annotations"], wanted).items():
            images[id].stuff.extend(found)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{path} is no annotation file of COCO: {error!r}") from error


def group(annotations: list[dict], wanted: Collection[int]) -> dict[int, list[tuple[int, object]]]:
    """Return {image: categories with their segmentations} of the wanted images."""
    found = {id: [] for id in wanted}
    for entry in annotations:
        if entry["image_id"] in found:
            found[entry["image_id"]].append((int(entry["category_id"]), entry["segmentation"]))
    return found


def convert(stuff_values: np.ndarray, image: Image) -> np.ndarray:
    """Return the label map (H, W) uint16: 0, or class id + 1.

    Raises:
        UserError: a segmentation is damaged, or an object has no class.
    """
    for category, _ in image.objects:
        if category not in OBJECTS:
            raise UserError(f"{image.file_name} has the category {category}, none of LVIS v1")
    objects = paint(image.objects, image)
    stuff = relabel(paint(image.stuff, image), stuff_values, Path(image.file_name))
    return np.where(objects > 0, objects, stuff).astype(np.uint16)


def paint(annotations: list[tuple[int, object]], image: Image) -> np.ndarray:
    """Return categories (H, W), 0 = none; a pixel keeps its first category."""
    canvas = np.zeros(image.size, dtype=np.int64)
    where = f"an annotation of {image.file_name}"
    for category, segmentation in annotations:
        mask = draw_outline(segmentation, image.size, where)
        canvas[mask & (canvas == 0)] = category
    return canvas
