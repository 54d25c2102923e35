"""Common parts of preparing downloads: tables of labels, segments, files."""

import math
import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image
from tqdm import tqdm

from segcore.errors import UserError
from segcore.images import MAX_PIXELS
from segcore.runtime.files import check_file_name, replace
from segcore.runtime.processes import process_map

MOST_VALUES = 1 << 16  # of a label map
MATLAB_NUMBERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "single", "double")
FORMATS = {
    ".png": ("PNG", {}),
    ".tif": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    ".jpg": ("JPEG", {}),
}


def find_files(folder: Path, suffix: str) -> list[Path]:
    """Return the files of a folder, in order of name.

    Raises:
        UserError: there is no such folder, or no such file in it.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}: unpack the download there")
    files = sorted(path for path in folder.glob(f"*{suffix}") if not path.name.startswith("."))
    if not files:
        raise UserError(f"{folder} holds no file *{suffix}: unpack the download there")
    return files


def read_names(path: Path) -> list[str]:
    """Read a list of file names, one a line.

    Raises:
        UserError: there is no such list, or a line is no file name.
    """
    try:
        names = path.read_text("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as a list of names: unpack the download") from error
    names = [name.strip() for name in names if name.strip()]
    for name in names:
        check_name(name, path)
    return names


def check_name(name: object, source: Path) -> str:
    """Return a file name from ``source``; raise UserError if it leads out of its folder."""
    return check_file_name(name, str(source))


def read_mat_labels(path: Path, key: str) -> np.ndarray:
    """Read a label map of a MATLAB file (version 5, which holds arrays and executes nothing).

    The size is checked before anything is unpacked.

    Args:
        path: the file.
        key: the name of the array.

    Returns:
        (H, W) integers.

    Raises:
        UserError: the file is missing, damaged, or has no such array.
    """
    if not path.is_file():
        raise UserError(f"no file at {path}")
    try:
        found = {name: (shape, kind) for name, shape, kind in scipy.io.whosmat(path)}
        shape, kind = found.get(key, ((), None))
        if len(shape) == 2 and 0 < math.prod(shape) <= MAX_PIXELS and kind in MATLAB_NUMBERS:
            values = scipy.io.loadmat(path, variable_names=[key])[key]
            labels = values.astype(np.int32)
            if (labels == values).all():
                return labels
    except Exception as error:  # damaged bytes can surface as anything in the reader
        raise UserError(f"cannot read {path}: it is damaged, or no MATLAB file") from error
    raise UserError(f"{path} holds no label map {key!r}: it is another file")


def label_table(ids: Mapping[int, int], ignore_label: int) -> np.ndarray:
    """Return a lookup table of all label values, (65536,) uint8 or uint16.

    Values without an id become ``ignore_label``. A lookup is correct where replacing values one
    after the other could replace one twice.
    """
    largest = max(ignore_label, *ids.values())
    table = np.full(MOST_VALUES, ignore_label, np.min_scalar_type(largest))
    table[list(ids)] = list(ids.values())
    return table


def relabel(labels: np.ndarray, table: np.ndarray, path: Path) -> np.ndarray:
    """Map labels (H, W) through a lookup table.

    Raises:
        UserError: a value is beyond the table; the message names ``path``.
    """
    if labels.min() < 0 or labels.max() >= len(table):
        raise UserError(f"{path} holds a value outside of 0..{len(table) - 1}: it is no label map")
    return table[labels]


def write_image(path: Path, pixels: np.ndarray, **options: object) -> None:
    """Write an image to a temporary file and rename it: ``path`` never holds half a file.

    Args:
        path: ``.png`` and ``.tif`` are lossless; ``.jpg`` takes 8-bit colours.
        pixels: (H, W) or (H, W, 3).
        options: of Pillow's writer.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    image_format, standard = FORMATS[path.suffix]
    save = Image.fromarray(pixels).save
    replace(path, partial(save, format=image_format, **standard, **options))


def link(source: Path, target: Path) -> None:
    """Make ``target`` a link to the file or folder ``source``, if only the latter exists."""
    if source.exists() and not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)  # a dangling link to an earlier folder
        target.symlink_to(os.path.relpath(source, target.parent))


def describe_mask(mask: np.ndarray) -> dict:
    """Return ``area`` and ``bbox`` (x, y, width, height) of a non-empty mask (H, W)."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left = int(rows[0]), int(columns[0])
    box = [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top]
    return {"area": int(mask.sum()), "bbox": box}


def for_all(function: Callable, items: Iterable, workers: int, title: str) -> list:
    """Return the results of a function for all items in order, with a progress bar.

    Raises:
        UserError: a file cannot be read or written.
    """
    items = list(items)
    try:
        with process_map(workers) as parallel_map:
            return list(tqdm(parallel_map(function, items), desc=title, total=len(items)))
    except OSError as error:
        raise UserError(f"{error.filename} cannot be written: {error.strerror}") from error
