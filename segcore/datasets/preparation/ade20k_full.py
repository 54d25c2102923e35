"""Prepare the full ADE20K with 847 classes for semantic segmentation.

Reads, below <root>/ADE20K_2021_17_01 (<root> is $DETECTRON2_DATASETS or "datasets"),

    images/ADE/{training,validation}/<kind>/<scene>/*.jpg       ADE20K_2021_17_01.zip, on request
    images/ADE/{training,validation}/<kind>/<scene>/*_seg.png   the same

and writes

    images_detectron2/{training,validation}/*.jpg       the shorter side at most 512
    annotations_detectron2/{training,validation}/*.tif  16 bits: 0..846, 65535 = no class

--split validation leaves out the training images, which no evaluation needs. Complete files are
kept. The list of images is that of the folders: index_ade20k.pkl holds the same list, but is a
pickle, which could execute code, and is not opened.
"""

from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from segcore.datasets.label_maps import LabelMaps, make_label_maps, stems
from segcore.datasets.preparing import (
    for_all,
    label_table,
    relabel,
    write_image,
)
from segcore.errors import UserError
from segcore.images import read_header, read_image
from segcore.vocabulary import Vocabulary

FOLDER = "ADE20K_2021_17_01"
SPLITS = {
    "training": "ade20k_full_sem_seg_train",
    "validation": "ade20k_full_sem_seg_freq_val_all",
}
MASK = "_seg.png"
LARGEST = 512  # pixels of the shorter side
VOCABULARY = Vocabulary.registered("ade20k_847")
LABELS = label_table(
    {theirs: id for id, theirs in enumerate(VOCABULARY.dataset_ids)}, VOCABULARY.ignore_label
)


def prepare(root: Path, *, split: str, workers: int) -> None:
    """Write images and label maps of one split or of both.

    Raises:
        UserError: a file is missing or wrong, or cannot be written.
    """
    found = find_masks(root / FOLDER / "images/ADE")
    for one in SPLITS if split == "all" else [split]:
        maps = LabelMaps.of(SPLITS[one], root)
        for_all(partial(shrink, maps.image_folder), found[one].items(), workers, one)
        make_label_maps(maps, found[one], convert, workers)


def find_masks(folder: Path) -> dict[str, dict[str, Path]]:
    """Return {split: {name of an image: its mask}}; names ADE_val_* are of the validation split.

    Raises:
        UserError: there is no mask, or there are two of one name.
    """
    found: dict[str, dict[str, Path]] = {split: {} for split in SPLITS}
    for below in sorted(stems(folder, MASK)):
        name = Path(below).name
        split = found["validation" if name.split("_")[1:2] == ["val"] else "training"]
        if name in split:
            raise UserError(f"{folder} holds two masks {name}{MASK}: unpack the download once")
        split[name] = folder / f"{below}{MASK}"
    if not any(found.values()):
        raise UserError(f"there is no *{MASK} below {folder}: unpack the download there")
    return found


def shrink(folder: Path, named: tuple[str, Path]) -> None:
    """Write an image, in the quality of the published preparation, unless it is there.

    Raises:
        UserError: the image is missing or damaged.
    """
    name, mask = named
    target = folder / f"{name}.jpg"
    if target.is_file():
        return
    pixels = torch.from_numpy(read_image(mask.with_name(target.name))).permute(2, 0, 1)
    size, header = tuple(pixels.shape[1:]), read_header(mask)
    if size != (header.height, header.width):
        raise UserError(
            f"{mask} has (height, width) {header.height, header.width}, but its image has "
            f"{size}: the two must agree"
        )
    if shrunk(*size) != size:
        torch.set_num_threads(1)  # every core has a process
        # Bilinear without antialiasing, like OpenCV.
        resized = F.interpolate(pixels[None].float(), shrunk(*size), mode="bilinear")
        pixels = resized[0].round().to(torch.uint8)
    write_image(target, pixels.permute(1, 2, 0).contiguous().numpy(), quality=75)


def convert(path: Path) -> np.ndarray:
    """Return the label map (h, w) uint16 of a mask, whose red and green channels hold the class."""
    pixels = read_image(path).astype(np.int64)
    ids = relabel(pixels[..., 0] // 10 * 256 + pixels[..., 1], LABELS, path)
    rows, columns = map(_nearest, ids.shape, shrunk(*ids.shape))
    return ids[rows[:, None], columns]


def _nearest(old: int, new: int) -> np.ndarray:
    """Return the indices (new,) of OpenCV's nearest-neighbour resizing: the pixel at or before."""
    return np.arange(new) * old // new


def shrunk(height: int, width: int) -> tuple[int, int]:
    """Return the size whose shorter side is at most ``LARGEST``."""
    shorter = min(height, width)
    if shorter <= LARGEST:
        return height, width
    return tuple(
        LARGEST if side == shorter else round(side / shorter * LARGEST) for side in (height, width)
    )
