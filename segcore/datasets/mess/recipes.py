"""The table of the sets: the files of each, and their conversion."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from segcore.datasets.mess import labels, sources
from segcore.datasets.mess.images import false_colours, stored_pixels
from segcore.datasets.mess.sources import Source, by_pattern

# Planes of PAXRay's stacks of masks; the four parts overlap, so each is a set of two classes.
PAXRAY_PLANES = {"lungs": 0, "mediastinum": 10, "bones": 24, "diaphragm": 163}
# CryoNuSeg has a folder of this name in a folder of the same name.
ANNOTATOR = "Annotator 1 (biologist second round of manual marks up)"


@dataclass(frozen=True)
class Recipe:
    """The conversion of a download into a set.

    Attributes:
        sources: folder of the set -> the images that are evaluated.
        labels: source -> class ids (H, W) uint8.
        image: file of an image -> (H, W, 3) uint8; None keeps images as downloaded.
        tiled: whether images and labels are cut into tiles.
    """

    sources: Callable[[Path], list[Source]]
    labels: Callable[[Source], np.ndarray]
    image: Callable[[Path], np.ndarray] | None = None
    tiled: bool = False


def _pattern(images: str, *label_files: str, stem: str = "{name}") -> Callable:
    return partial(by_pattern, images=images, labels=label_files, stem=stem)


def _values(name: str) -> Callable:
    return partial(labels.by_value, name)


def _colours(name: str) -> Callable:
    return partial(labels.by_colour, name)


# None: the downloaded files are used as they are.
RECIPES: dict[str, Recipe | None] = {
    "atlantis": Recipe(
        _pattern("images/test/*/*.jpg", "masks/test/{below}/{name}.png"),
        _values("atlantis"),
        stored_pixels,
    ),
    "bdd100k": Recipe(
        _pattern("images/10k/val/*.jpg", "labels/sem_seg/colormaps/val/{name}.png"),
        _values("bdd100k"),
    ),
    "chase_db1": Recipe(sources.chase_db1, labels.white, stored_pixels),
    "corrosion_cs": None,
    "cryonuseg": Recipe(
        _pattern("tissue images/*.tif", f"{ANNOTATOR}/{ANNOTATOR}/mask binary/{{name}}.png"),
        labels.white,
        stored_pixels,
    ),
    "cub_200": Recipe(sources.cub_200, labels.class_of_folder, stored_pixels),
    "cwfid": Recipe(sources.cwfid, _colours("cwfid")),
    "dark_zurich": Recipe(
        _pattern(
            "rgb_anon/val/night/GOPR0356/*_rgb_anon.png",
            "gt/val/night/GOPR0356/{name}_gt_labelIds.png",
            "gt/val/night/GOPR0356/{name}_gt_invGray.png",
        ),
        partial(labels.without_invalid, "dark_zurich"),
    ),
    "deepcrack": Recipe(_pattern("test_img/*.jpg", "test_lab/{name}.png"), labels.white),
    "dram": Recipe(
        _pattern("test/**/*.jpg", "labels/{below}/{name}.png", stem="{parent}_{name}"),
        _values("dram"),
        stored_pixels,
    ),
    "floodnet": Recipe(
        _pattern("test/test-org-img/*.jpg", "test/test-label-img/{name}_lab.png"),
        _values("floodnet"),
        stored_pixels,
        tiled=True,
    ),
    "foodseg103": None,
    "isaid": Recipe(sources.isaid, _colours("isaid"), stored_pixels, tiled=True),
    "isprs_potsdam": Recipe(
        sources.isprs_potsdam,
        partial(labels.by_colour, "isprs_potsdam", threshold=128),
        stored_pixels,
        tiled=True,
    ),
    "kvasir_instrument": Recipe(sources.kvasir_instrument, labels.white, stored_pixels),
    "mhp_v1": Recipe(sources.mhp_v1, partial(labels.largest, "mhp_v1"), stored_pixels),
    **{
        f"paxray_{part}": Recipe(sources.paxray, partial(labels.plane, index), stored_pixels)
        for part, index in PAXRAY_PLANES.items()
    },
    "pst900": None,
    "suim": Recipe(_pattern("TEST/images/*.jpg", "TEST/masks/{name}.bmp"), _colours("suim")),
    "uavid": Recipe(
        _pattern(
            "uavid_val/*/Images/*.png",
            "uavid_val/{grandparent}/Labels/{name}.png",
            stem="{grandparent}_{name}",
        ),
        _colours("uavid"),
        stored_pixels,
        tiled=True,
    ),
    "worldfloods": Recipe(
        _pattern("test/S2/*.tif", "test/gt/{name}.tif"),
        _values("worldfloods"),
        false_colours,
        tiled=True,
    ),
    "zerowaste": None,
}
