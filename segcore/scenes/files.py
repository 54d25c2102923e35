"""What is there and readable is kept: the same command continues an interrupted run."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from segcore.errors import UserError
from segcore.runtime.files import remove_unfinished, replace, write_text
from segcore.scenes.plan import Scene
from segcore.scenes.render import Rendered, render

RECORD = "scenes.json"


def finish(
    scene: Scene, size: int, parts: Mapping[Path, Callable[[Rendered], np.ndarray]]
) -> list[np.ndarray]:
    """See that every file of ``parts`` holds its part of the drawn scene.

    The scene is drawn only where a file is missing or damaged.

    Returns: the content of the files, in order.
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
    """The image on disk, or ``None`` where it is missing or damaged."""
    try:
        with Image.open(path) as image:
            array = np.asarray(image) if image.size == (size, size) else None
    except (OSError, SyntaxError):  # Pillow calls a broken PNG chunk a syntax error
        return None
    # Pillow's releases do not agree on the type of a 16-bit image.
    return array.astype(np.uint16) if array is not None and array.dtype != np.uint8 else array


def prepare(folder: Path, names: Sequence[str]) -> None:
    """Make subfolders, and remove what a killed run left half-written in them."""
    for name in names:
        (folder / name).mkdir(parents=True, exist_ok=True)
        remove_unfinished(folder / name)


def write_table(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Tab-separated values, one row a line."""
    write_text(path, "".join("\t".join(row) + "\n" for row in (header, *rows)))


def check_record(
    folder: Path, fixed: Mapping[str, int], noun: str, counts: Mapping[str, int]
) -> None:
    """Is what ``folder`` holds of the same settings, and no more of it than is asked for?

    Args:
        fixed: what all images of the folder have in common.
        noun: "images" or "videos".
        counts: the number of them in every split, which may grow.

    Raises:
        UserError: it is not; the sentence says what differs.
    """
    path = folder / RECORD
    if not path.exists():
        return
    try:
        there = json.loads(path.read_text("utf-8"))
        known = there[noun]
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path} is damaged: delete the folder {folder} and start again."
        ) from error
    for key, value in fixed.items():
        if there.get(key) != value:
            raise UserError(
                f"{folder} holds {noun} of {key} {there.get(key)}, not {value}: choose another "
                "--root or delete the folder."
            )
    for split, number in counts.items():
        if number < known.get(split, 0):
            raise UserError(
                f"{folder} is to hold {known[split]} {split} {noun}, more than {number}: ask "
                "for at least as many, choose another --root, or delete the folder."
            )


def write_record(
    folder: Path,
    fixed: Mapping[str, int],
    noun: str,
    counts: Mapping[str, int],
    hashes: Mapping[str, str],
) -> None:
    content = {**fixed, noun: dict(counts), "sha256": dict(hashes)}
    write_text(folder / RECORD, json.dumps(content, indent=1) + "\n")


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Within this, a failure to write is the user's error, told in one sentence."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror or error}): choose another --root."
        ) from error
