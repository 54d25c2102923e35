"""Files that are whole or absent, and one error message where one cannot be written."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from segcore.errors import UserError, printable
from segcore.runtime.files import replace, write_text


def save_image(image: np.ndarray, path: Path) -> None:
    """Write an image (H, W, 3) uint8, or a label map (H, W) uint8 or uint16.

    Raises:
        UserError: it cannot be written.
    """
    try:
        replace(path, Image.fromarray(image).save)
    except OSError as error:
        raise UserError(unwritable(path, error)) from error


def save_json(content: object, path: Path, *, compact: bool = False) -> None:
    """Write a table, for people to read or in one line.

    Raises:
        UserError: it cannot be written.
    """
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False) + "\n"
    try:
        write_text(path, text if compact else as_json(content))
    except OSError as error:
        raise UserError(unwritable(path, error)) from error


def make_folder(folder: Path) -> None:
    """Make a folder with those above it.

    Raises:
        UserError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(unwritable(folder, error)) from error


def as_json(content: object) -> str:
    """Return a table as text, readable by people too."""
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def unwritable(path: Path, error: OSError) -> str:
    """Return the error message for a file or folder that the system refuses."""
    reason = error.strerror or type(error).__name__
    return f"cannot write {printable(path)}: {reason}; give another --output or free it"
