"""What the scripts that prepare downloads share: tables of labels, segments, files."""

import argparse
import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from segcore.datasets.builtin import data_root
from segcore.errors import UserError
from segcore.files import replace
from segcore.processes import process_map

MOST_VALUES = 1 << 16  # of a label map


def preparing_parser(description: str) -> argparse.ArgumentParser:
    """A parser of ``--workers`` and ``--root``, which every script of this kind takes."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count(), help="processes (default: one a core)"
    )
    parser.add_argument("--root", type=Path, default=data_root())
    return parser


def find_files(folder: Path, suffix: str) -> list[Path]:
    """The files of a folder, in order of name.

    Raises:
        UserError: there is no such folder, or no such file in it.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}: unpack the download there")
    files = sorted(path for path in folder.glob(f"*{suffix}") if not path.name.startswith("."))
    if not files:
        raise UserError(f"{folder} holds no file *{suffix}: unpack the download there")
    return files


def label_table(ids: Mapping[int, int], ignore_label: int) -> np.ndarray:
    """A table of all label values, (65536,) uint8 or uint16: values without an id are ignored.

    Looking values up cannot go wrong where renaming them one after the other would.
    """
    table = np.full(MOST_VALUES, ignore_label, np.uint8 if ignore_label < 256 else np.uint16)
    table[list(ids)] = list(ids.values())
    return table


def relabel(labels: np.ndarray, table: np.ndarray, path: Path) -> np.ndarray:
    """Labels (H, W) looked up in a table.

    Raises:
        UserError: there is a value beyond the table; the sentence names ``path``.
    """
    if labels.min() < 0 or labels.max() >= len(table):
        raise UserError(f"{path} holds a value outside of 0..{len(table) - 1}: it is no label map")
    return table[labels]


def write_png(path: Path, pixels: np.ndarray) -> None:
    """Write beside the place and rename: ``path`` never holds half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace(path, partial(Image.fromarray(pixels).save, format="PNG"))


def describe_mask(mask: np.ndarray) -> dict:
    """``area`` and ``bbox`` (x, y, width, height) of a mask (H, W) that has a pixel."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left = int(rows[0]), int(columns[0])
    box = [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top]
    return {"area": int(mask.sum()), "bbox": box}


def for_all(function: Callable, items: Iterable, workers: int, title: str) -> list:
    """The results of a function for all items in order, with a progress bar.

    Raises:
        UserError: a file cannot be read or written.
    """
    items = list(items)
    try:
        with process_map(workers) as parallel_map:
            return list(tqdm(parallel_map(function, items), desc=title, total=len(items)))
    except OSError as error:
        raise UserError(f"{error.filename} cannot be written: {error.strerror}") from error
