"""Files of the demo: find images, name results, write them with one error message."""

import glob
import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from segcore.errors import UserError
from segcore.images.folders import list_images, natural_order
from segcore.runtime.files import replace, short_name, user_path, write_text


def find_images(inputs: Sequence[str]) -> list[Path]:
    """List the images that files, folders (every image directly inside) and glob patterns name.

    Args:
        inputs: as typed by a user; a file that occurs several times is listed once.

    Raises:
        UserError: a name leads to no image, or may not be read.
    """
    found: dict[Path, None] = {}
    for name in inputs:
        try:
            images = _named(name)
        except OSError as error:
            raise UserError(
                f"--input {name:.80}: it cannot be listed ({error.strerror}); give an image, "
                "a folder that you may read or a quoted pattern"
            ) from error
        if not images:
            is_dir = user_path(name).is_dir()
            kind = "a folder without images" if is_dir else "no file, folder or pattern"
            raise UserError(
                f"--input {name}: {kind} that can be read here; give an image, a folder with "
                "images or a quoted pattern such as 'photos/*.jpg'"
            )
        found.update(dict.fromkeys(images))
    return list(found)


def _named(name: str) -> list[Path]:
    """List the images under one name; OSError where it is too long or may not be read."""
    path = user_path(name)
    if path.is_dir():
        return list_images(path)
    if path.exists():
        return [path]
    matches = glob.glob(str(path), recursive=True)  # noqa: PTH207  takes absolute patterns too
    return sorted((path for path in map(Path, matches) if path.is_file()), key=natural_order)


def name_outputs(images: Sequence[Path]) -> dict[Path, str]:
    """Return a distinct base name for the results of each image: its stem, numbered where two
    agree and cut where there would be no room for an extension."""
    names, taken = {}, set()
    for image in images:
        stem = short_name(image.stem)
        numbered = (f"{stem}-{number}" for number in itertools.count(2))
        name = next(n for n in itertools.chain([stem], numbered) if n not in taken)
        taken.add(name)
        names[image] = name
    return names


def save_image(image: np.ndarray, path: Path) -> None:
    """Write an image (H, W, 3) uint8 or a label map (H, W) uint16.

    Raises:
        UserError: it cannot be written.
    """
    try:
        replace(path, Image.fromarray(image).save)
    except OSError as error:
        raise UserError(unwritable(path, error)) from error


def save_json(content: object, path: Path) -> None:
    """Write a table as JSON.

    Raises:
        UserError: it cannot be written.
    """
    try:
        write_text(path, as_json(content))
    except OSError as error:
        raise UserError(unwritable(path, error)) from error


def as_json(content: object) -> str:
    """Return a table as indented JSON."""
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def unwritable(path: Path, error: OSError) -> str:
    """Return the error message for a file or folder that the system refuses to write."""
    reason = error.strerror or type(error).__name__
    return f"cannot write {path}: {reason}; give another --output or free it"
