"""Folders of masks: classes by colours or by integers, with a table of them.

A table is a line, ``background=0, crack=255`` or ``road=#804080, car=#00008e``; CVAT's and
VOC's ``labelmap.txt`` with lines ``name:r,g,b:...``; or a JSON vocabulary with colours.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from catrank.imports.export import PIXELS, Export, ExportClass, LabelledImage
from segcore.errors import UserError, printable
from segcore.images import read_header, read_labels, read_stored_colours
from segcore.images.folders import list_images
from segcore.runtime.files import user_path
from segcore.vocabulary import Vocabulary
from segcore.vocabulary.files import read_names

LABEL_MAP = "labelmap.txt"
SPLITS = {"train": "train", "val": "val", "test": "val"}  # lists of ImageSets
CVAT_FOLDERS = ("SegmentationClass", "JPEGImages", "ImageSets/Segmentation")
SHOWN_VALUES = 12
COLOR = re.compile(r"#([0-9a-fA-F]{6})")
Value = int | tuple[int, int, int]


def read_masks(source: Path, image_dir: Path | None, table: str | None) -> Export:
    """Read a folder of masks, or CVAT's export "Segmentation mask", which has a labelmap.txt.

    An image and its mask have the same path below their folders, except for the suffix.

    Args:
        source: the folder.
        image_dir: of the images; None: ``JPEGImages`` of CVAT's export.
        table: see the module's docstring; None: labelmap.txt of the folder.

    Raises:
        UserError: there is no table or no pair, or a folder is missing.
    """
    masks = source / CVAT_FOLDERS[0] if (source / CVAT_FOLDERS[0]).is_dir() else source
    images = image_dir or source / CVAT_FOLDERS[1]
    if not images.is_dir():
        raise UserError(f"{images} is no folder: give that of the images with --images")
    found = _by_stem(masks)
    if not found:
        raise UserError(f"{masks} holds no mask")
    if table is None and (source / LABEL_MAP).is_file():
        table = str(source / LABEL_MAP)
    if table is None:
        raise UserError(
            f"{source} says nothing of its classes: give --table, such as "
            f'"background=0, crack=255"; {_shown(next(iter(found.values())))}'
        )
    classes = read_table(table)
    photographs = _by_stem(images)
    shared = [stem for stem in found if stem in photographs]
    if not shared:
        raise UserError(f"no image in {images} has the name of a mask in {masks}")
    notes = [
        f"{len(extra)} {what}, such as {next(iter(extra))}"
        for what, extra in (
            (f"masks have no image in {images}", [m for m in found if m not in photographs]),
            ("images have no mask and are left out", [i for i in photographs if i not in found]),
        )
        if extra
    ]
    splits = _splits(source / CVAT_FOLDERS[2])
    pairs = (
        LabelledImage(
            photographs[stem].relative_to(images).as_posix(),
            photographs[stem],
            mask=found[stem],
            split=splits.get(stem),
        )
        for stem in shared
    )
    return Export("masks", PIXELS, classes, tuple(pairs), source, tuple(notes))


def read_table(text: str) -> tuple[ExportClass, ...]:
    """Return the classes of a table; their colours are those in masks, if these are colours.

    Raises:
        UserError: a line or an entry is wrong, or two have the same value.
    """
    path = None if "=" in text else user_path(text)
    if path is None:
        rows = [_typed(each) for each in text.split(",") if each.strip()]
    elif path.suffix.lower() == ".json":
        vocabulary = Vocabulary.from_file(path)
        if not all(vocabulary.colored or (False,)):
            raise UserError(f"{printable(path)}: every class needs a 'color'")
        rows = list(zip(vocabulary.names, vocabulary.colors, strict=True))
    else:
        lines = read_names(path)
        rows = [_line(each, f"{printable(path)}: {printable(each, 60)}") for each in lines]
    known: dict[Value, str] = {}
    for name, value in rows:
        if known.setdefault(value, name) != name:
            raise UserError(f"{printable(text)}: {known[value]} and {name} have the same value")
    return tuple(
        ExportClass(name, value if isinstance(value, tuple) else None, value=value)
        for name, value in rows
    )


def read_mask(path: Path, values: Mapping[Value, int]) -> np.ndarray:
    """Return the numbers that a table gives the values or colours of a mask, (H, W) int64.

    An integer also stands for the grey of three equal channels.

    Raises:
        UserError: the mask cannot be read, or holds a value that the table lacks.
    """
    header = read_header(path)
    if header.lossy:
        raise UserError(f"{path} is {header.format}, which changes values: export masks as PNG")
    integers = all(isinstance(value, int) for value in values)
    if integers and header.is_label_map:
        stored = read_labels(path).astype(np.int64)
        wanted = {value: number for value, number in values.items() if isinstance(value, int)}
    else:
        stored = read_stored_colours(path).astype(np.int64) @ (65536, 256, 1)
        wanted = {_packed(value): number for value, number in values.items()}
    keys, index = np.unique(stored, return_inverse=True)
    lacking = [key for key in keys.tolist() if key not in wanted]
    if lacking:
        raise UserError(f"{path} holds a value that --table lacks; {_shown(path)}")
    return np.array([wanted[key] for key in keys.tolist()])[index.reshape(stored.shape)]


def _shown(path: Path) -> str:
    """Return the values that a mask holds, as text."""
    if read_header(path).is_label_map and read_header(path).mode != "P":
        values = list(map(str, np.unique(read_labels(path)).tolist()))
    else:
        colors = np.unique(read_stored_colours(path).reshape(-1, 3), axis=0)
        values = ["#{:02x}{:02x}{:02x}".format(*color) for color in colors.tolist()]
    more = f" and {len(values) - SHOWN_VALUES} more" if len(values) > SHOWN_VALUES else ""
    return f"{path.name} has {', '.join(values[:SHOWN_VALUES])}{more}"


def _packed(value: Value) -> int:
    red, green, blue = value if isinstance(value, tuple) else (value,) * 3
    return red << 16 | green << 8 | blue


def _typed(text: str) -> tuple[str, Value]:
    name, _, value = (part.strip() for part in text.rpartition("="))
    color = COLOR.fullmatch(value)
    if color:
        red, green, blue = bytes.fromhex(color[1])
        return name, (red, green, blue)
    if name and re.fullmatch(r"\d{1,5}", value):
        return name, int(value)
    raise UserError(
        f"--table: {printable(text.strip())} is no entry such as crack=255 or road=#804080"
    )


def _line(text: str, where: str) -> tuple[str, Value]:
    """Return name and colour (or integer) of ``name:r,g,b:parts:actions``."""
    name, *rest = text.split(":")
    numbers = rest[0].split(",") if rest else []
    if all(re.fullmatch(r"\s*\d{1,5}\s*", each) for each in numbers):
        values = [int(each) for each in numbers]
        if len(values) == 1:
            return name.strip(), values[0]
        if len(values) == 3 and max(values) < 256:
            return name.strip(), (values[0], values[1], values[2])
    raise UserError(f"{where}: a line needs to be name:r,g,b or name:value")


def _by_stem(folder: Path) -> dict[str, Path]:
    """Return the images of a folder by their paths below it without suffix, in natural order."""
    try:
        paths = list_images(folder, below=True)
    except OSError as error:
        raise UserError(f"cannot read the folder {folder}: {error.strerror}") from error
    found: dict[str, Path] = {}
    for path in paths:
        stem = path.relative_to(folder).with_suffix("").as_posix()
        if found.setdefault(stem, path) != path:
            raise UserError(f"{found[stem]} and {path} differ in their endings only: remove one")
    return found


def _splits(folder: Path) -> dict[str, str]:
    """Return the split of each stem that the lists of an export name; none without train.txt."""
    if not (folder / "train.txt").is_file():
        return {}
    lists: Iterable[tuple[str, Path]] = (
        (split, folder / f"{name}.txt") for name, split in SPLITS.items()
    )
    return {stem: split for split, path in lists if path.is_file() for stem in read_names(path)}
