"""Check paths from users and from files, and write files atomically.

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
PARTIAL = ".part-"  # prefix of files that are being written


def user_path(text: str | os.PathLike) -> Path:
    """Return the path that a person typed, with ``~`` expanded.

    Raises:
        UserError: ``~name`` is no user, or the text holds a NUL or half a surrogate pair.
    """
    if "\0" in os.fspath(text):
        raise UserError(f"{printable(text)} is no path: it holds a NUL character")
    try:
        os.fsencode(text)
    except UnicodeEncodeError as error:
        raise UserError(f"{printable(text)} is no path: no file can be named so") from error
    try:
        return Path(text).expanduser()
    except RuntimeError as error:  # pathlib's error for an unknown user
        raise UserError(f"{printable(text)}: there is no such user: write the path out") from error


def path_argument(text: str) -> Path:
    """Return :func:`user_path` of an option: a ``type`` of argparse, which shows its message."""
    try:
        return user_path(text)
    except UserError as error:
        raise ArgumentTypeError(str(error)) from error


def expand_home(text: str) -> str:
    """Return a text that may be a path, an address or a name, with a leading ``~`` expanded.

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
        where: the source of the name; the error message begins with it.

    Raises:
        UserError: the name is no string, is empty or absolute, leads out of the folder, holds
            control characters, or has a part that is longer than file systems allow.
    """
    if not isinstance(name, str):
        raise UserError(f"{where}: {printable(name)} is no file name: write a string")
    # Windows forbids more names (drives, backslashes); its rules apply on every system.
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
    """Return ``name`` if it names one file or folder; ``where`` as in :func:`join_inside`.

    Raises:
        UserError: as :func:`join_inside`; or the name holds a slash, or a space at an end.
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

    The remaining bytes, up to :data:`MAX_NAME_BYTES`, are for suffixes.
    """
    whole = os.fsencode(name)
    if len(whole) <= limit:
        return name
    digest = hashlib.sha256(whole).hexdigest()[:16]
    return f"{whole[: limit - len(digest) - 1].decode('utf-8', 'ignore')}-{digest}"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield an empty file beside ``path``, which replaces ``path`` when the block succeeds.

    So ``path`` never holds half a file, and a symbolic link is replaced: nothing is written to its
    target. A stream (``/dev/stdout``, a pipe) is written directly.
    """
    if _is_stream(path):
        yield path
        return
    beside = path.parent / f"{PARTIAL}{secrets.token_hex(8)}{path.suffix}"
    # O_EXCL: a file of another thread, or a planted link, is an error.
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


def remove_partial_files(folder: Path) -> None:
    """Remove the partial files of a run that was killed while it was writing into a folder."""
    for path in folder.glob(f"{PARTIAL}*"):
        path.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """Open a binary file that takes its name after everything is written and synced to disk.

    Raises:
        UserError: the folder cannot be created or written to, or the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as beside, beside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # else a power loss may keep the name and lose the contents
    except (OSError, RuntimeError) as error:
        # PyTorch's writer turns the OSError of the file into a RuntimeError.
        reason = error if isinstance(error, OSError) else error.__context__
        if not isinstance(reason, OSError):
            raise
        raise UserError(f"{printable(path)} cannot be written: {reason.strerror}") from error


def replace(path: Path, write: Callable[[Path], object]) -> None:
    """Call ``write`` with a file beside ``path``, then rename it; see :func:`replacing`."""
    with replacing(path) as beside:
        write(beside)


def write_text(path: Path, text: str) -> None:
    """Write a file as UTF-8, atomically."""
    replace(path, lambda beside: beside.write_text(text, "utf-8"))


def write_json(path: Path, content: object) -> None:
    """Write a JSON file in one line, atomically."""
    write_text(path, json.dumps(content, separators=(",", ":")) + "\n")
