"""Paths from users and from files, and files that are whole or absent.

Every path that a person types goes through :func:`user_path`; every name that stands *in* a file
(a dataset's name, ``file_name`` of an annotation) goes through :func:`join_inside`.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath, PureWindowsPath

from segcore.errors import UserError, printable

MAX_NAME_BYTES = 255  # of one part of a path, on every file system in use


def user_path(text: str | os.PathLike) -> Path:
    """Return the path that a person typed, with ``~`` expanded.

    Raises:
        UserError: ``~name`` names nobody, or the text holds a NUL.
    """
    if "\0" in os.fspath(text):
        raise UserError(f"{printable(text)} is no path: it holds a NUL character")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:  # what pathlib says of an unknown user
        raise UserError(f"{printable(text)}: there is no such user: write the path out") from error


def join_inside(folder: str | os.PathLike, name: object, where: str) -> Path:
    """Return the path of ``name`` in or below ``folder``.

    The check is lexical: a data set may consist of symbolic links to another disk.

    Args:
        folder: trusted.
        name: text out of a file, not trusted.
        where: what holds the name, to begin the error message with.

    Raises:
        UserError: the name is no text, is empty or absolute, leads out of the folder, holds control
            characters, or has a part that is longer than file systems allow.
    """
    if not isinstance(name, str):
        raise UserError(f"{where}: {printable(name)} is no file name: write a text")
    # Windows' reading of a name forbids more (drives, backslashes), and holds on every system.
    parts = (*PurePosixPath(name).parts, *PureWindowsPath(name).parts)
    if not name or PurePosixPath(name) == PurePosixPath("."):
        raise UserError(f"{where}: a file name is empty")
    if name.startswith("/") or PureWindowsPath(name).anchor or ".." in parts:
        raise UserError(
            f"{where}: {printable(name)} leads out of {folder}: write a path inside of that folder"
        )
    if not name.isprintable():
        raise UserError(f"{where}: {printable(name)} holds control characters: rename the file")
    if any(len(part.encode()) > MAX_NAME_BYTES for part in parts):
        raise UserError(
            f"{where}: the file name {printable(name)} is longer than file names can be"
        )
    return Path(folder) / name


def replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write beside ``path``, then rename: ``path`` never holds half a file."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    write(beside)
    beside.replace(path)


def write_text(path: Path, text: str) -> None:
    """As UTF-8."""
    replace(path, lambda beside: beside.write_text(text, "utf-8"))


def write_json(path: Path, content: object) -> None:
    """In one line."""
    write_text(path, json.dumps(content, separators=(",", ":")) + "\n")
