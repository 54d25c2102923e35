"""Paths from users and from files, and files that are whole or absent.

Every path that a person types goes through :func:`user_path`; every name that stands *in* a file
(a dataset's name, ``file_name`` of an annotation) goes through :func:`join_inside`.
"""

import hashlib
import json
import os
import secrets
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import BinaryIO

from segcore.errors import UserError, holds_control, printable

MAX_NAME_BYTES = 255  # of one part of a path, on every file system in use
UNFINISHED = ".part-"  # what names of files begin with that are being written


def user_path(text: str | os.PathLike) -> Path:
    """Return the path that a person typed, with ``~`` expanded.

    Raises:
        UserError: ``~name`` names nobody, or the text holds a NUL or half a surrogate pair.
    """
    if "\0" in os.fspath(text):
        raise UserError(f"{printable(text)} is no path: it holds a NUL character")
    try:
        os.fsencode(text)
    except UnicodeEncodeError as error:
        raise UserError(f"{printable(text)} is no path: no file can be named so") from error
    try:
        return Path(text).expanduser()
    except RuntimeError as error:  # what pathlib says of an unknown user
        raise UserError(f"{printable(text)}: there is no such user: write the path out") from error


def path_argument(text: str) -> Path:
    """Return :func:`user_path` of an option: a ``type`` of argparse, which shows its message."""
    try:
        return user_path(text)
    except UserError as error:
        raise ArgumentTypeError(str(error)) from error


def expand_home(text: str) -> str:
    """Return a text that may be a path, an address or a name, with ``~`` expanded at its begin.

    Raises:
        UserError: as :func:`user_path`.
    """
    return str(user_path(text)) if text.startswith("~") else text


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
    if holds_control(name):
        raise UserError(f"{where}: {printable(name)} holds control characters: rename the file")
    if any(len(part.encode()) > MAX_NAME_BYTES for part in parts):
        raise UserError(
            f"{where}: the file name {printable(name)} is longer than file names can be"
        )
    return Path(folder) / name


def check_file_name(name: object, where: str) -> str:
    """Return ``name``, which must be that of one file or folder; ``where`` as in
    :func:`join_inside`.

    Raises:
        UserError: as :func:`join_inside`; or there is a slash in it, or a space at an end.
    """
    join_inside("its folder", name, where)
    if {"/", "\\"} & {*name} or name != name.strip():
        raise UserError(
            f"{where}: {printable(name)} cannot be the name of one file or folder: write it "
            "without slashes and without spaces at its ends"
        )
    return name


def short_name(name: str, limit: int = 200) -> str:
    """Return a file name of at most ``limit`` bytes: the name itself, or its beginning and a hash.

    The rest, up to the :data:`MAX_NAME_BYTES` that systems allow, is for endings.
    """
    whole = os.fsencode(name)
    if len(whole) <= limit:
        return name
    digest = hashlib.sha256(whole).hexdigest()[:16]
    return f"{whole[: limit - len(digest) - 1].decode('utf-8', 'ignore')}-{digest}"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield an empty file beside ``path``, which takes that name when the block ends well.

    So ``path`` never holds half a file, and a symbolic link there is replaced: nothing is written
    to where it points. A stream (``/dev/stdout``, a pipe) is written as it is.
    """
    if _is_stream(path):
        yield path
        return
    beside = path.parent / f"{UNFINISHED}{secrets.token_hex(8)}{path.suffix}"
    # Nobody else has the name: another thread, or a link that was laid there, would be an error.
    os.close(os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield beside
        beside.replace(path)
    finally:
        with suppress(OSError):
            beside.unlink()


def _is_stream(path: Path) -> bool:
    named = str(path).startswith(("/dev/fd/", "/dev/std"))
    return named or path.is_fifo() or path.is_char_device()


def remove_unfinished(folder: Path) -> None:
    """Remove what a run that was killed while it was writing has left in a folder."""
    for path in folder.glob(f"{UNFINISHED}*"):
        path.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """Open a file for bytes that is there under its name once all is written, and on the disk.

    Raises:
        UserError: the folder cannot be made or written to, or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as beside, beside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # else a machine that stops may keep the name and lose the rest
    except (OSError, RuntimeError) as error:
        # PyTorch's writer turns what the file said into a RuntimeError of its own.
        reason = error if isinstance(error, OSError) else error.__context__
        if not isinstance(reason, OSError):
            raise
        raise UserError(f"{printable(path)} cannot be written: {reason.strerror}") from error


def replace(path: Path, write: Callable[[Path], object]) -> None:
    """Call ``write`` with a file beside ``path``, then rename that; see :func:`replacing`."""
    with replacing(path) as beside:
        write(beside)


def write_text(path: Path, text: str) -> None:
    """As UTF-8."""
    replace(path, lambda beside: beside.write_text(text, "utf-8"))


def write_json(path: Path, content: object) -> None:
    """In one line."""
    write_text(path, json.dumps(content, separators=(",", ":")) + "\n")
