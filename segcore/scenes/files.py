"""Write the files that are missing or damaged: the same command continues an interrupted run."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from segcore.errors import UserError
from segcore.runtime.files import remove_partial_files, replace, write_text
from segcore.scenes.plan import Scene
from segcore.scenes.render import Rendered, render

RECORD = "scenes.json"
NOUNS = {"pictures": "images", "videos": "videos"}  # keys of the record, and their units


def finish(
    scene: Scene, size: int, parts: Mapping[Path, Callable[[Rendered], np.ndarray]]
) -> list[np.ndarray]:
    """Write the files of ``parts`` that are missing or damaged.

    The scene is rendered only if there are such files.

    Returns: the content of all files, in order.
    """
    arrays = {path: _read(path, size) for path in parts}
    missing = [path for path, array in arrays.items() if array is None]
    if missing:
        rendered = render(scene, size)
        for path in missing:
            arrays[path] = parts[path](rendered)
            replace(path, partial(Image.fromarray(arrays[path]).save, format="PNG"))
    return list(arrays.values())


def _read(path: Path, size: int) -> np.ndarray | None:
    """Return the image on disk, or ``None`` if it is missing or damaged."""
    try:
        with Image.open(path) as image:
            array = np.asarray(image) if image.size == (size, size) else None
    except (OSError, SyntaxError):  # Pillow calls a broken PNG chunk a syntax error
        return None
    # Pillow's releases do not agree on the type of a 16-bit image.
    return array.astype(np.uint16) if array is not None and array.dtype != np.uint8 else array


def prepare(folder: Path, names: Sequence[str]) -> None:
    """Create subfolders, and remove the unfinished files of a killed run from them."""
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
        remove_partial_files(folder / name)


def write_table(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write tab-separated values, one row a line."""
    write_text(path, "".join("\t".join(row) + "\n" for row in (header, *rows)))


def check_record(
    folder: Path, fixed: Mapping[str, int], key: str, counts: Mapping[str, int]
) -> None:
    """Raise UserError if ``folder`` holds images of other settings, or more than requested.

    Args:
        fixed: the settings that all images of the folder have in common.
        key: of the counts in the record, one of ``NOUNS``.
        counts: the number of images or videos in every split, which may grow.
    """
    path, noun = folder / RECORD, NOUNS[key]
    if not path.exists():
        return
    try:
        record = json.loads(path.read_text("utf-8"))
        known = record[key]
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path} is damaged: delete the folder {folder} and start again."
        ) from error
    for setting, value in fixed.items():
        if record.get(setting) != value:
            raise UserError(
                f"{folder} holds {noun} of {setting} {record.get(setting)}, not {value}: choose "
                "another --root or delete the folder."
            )
    for split, number in counts.items():
        if number < known.get(split, 0):
            raise UserError(
                f"{folder} is to hold {known[split]} {split} {noun}, more than {number}: choose "
                "at least as many, choose another --root, or delete the folder."
            )


def write_record(
    folder: Path,
    fixed: Mapping[str, int],
    key: str,
    counts: Mapping[str, int],
    hashes: Mapping[str, str],
) -> None:
    """Write the settings, the counts under ``key``, and the hash of every split."""
    content = {**fixed, key: dict(counts), "sha256": dict(hashes)}
    write_text(folder / RECORD, json.dumps(content, indent=1) + "\n")


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Raise UserError for a failure to write in this context."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror or error}): choose another --root."
        ) from error
