"""Copies of checkpoints in the format that Detectron2 reads, in the cache.

A copy is called ``<hash of the file>-<hash of the copy>.pth``: another file never finds it,
whatever its name and time are, and a copy that was changed has another hash than its name says.
Copies do not pile up: each use renews a copy's time of change, and writing one removes those that
were not used for long, and the oldest of more than a bounded size.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from segcore.checkpoint.cache import private_folder
from segcore.errors import UserError

UNFINISHED = ".unfinished"  # what names of files end with that are being written
MAX_BYTES = 8 << 30  # of all copies; the largest published model has below 1 GB
MAX_IDLE = 7 * 86400.0  # seconds without use
# Another process may be about to load a copy that it found this many seconds ago.
IN_USE = 3600.0


def cached_copy(path: Path, read: Callable[[Path], dict[str, Any]]) -> Path:
    """Return a ``.pth`` file with what ``read`` finds in a file, made where there is none yet.

    Args:
        path: of a file.
        read: returns its contents, which ``torch.save`` can write.

    Raises:
        UserError: the file changes while it is read, or the cache cannot be used.
    """
    folder = private_folder("checkpoints")
    try:
        before = path.stat()
        source = file_sha256(path)
        if copy := _whole_copy(folder.glob(f"{source}-*.pth")):
            return copy
        content, after = read(path), path.stat()
        if (before.st_mtime_ns, before.st_ino) != (after.st_mtime_ns, after.st_ino):
            raise UserError(f"{path} changed while it was read: start again once it is whole")
        copy = _write(folder, source, content)
        evict(folder, keep=copy)
        return copy
    except OSError as error:
        raise UserError(
            f"a copy of {path} cannot be kept in {folder}: {error.strerror or error}; set "
            "CATRANK_CACHE to a folder with more space"
        ) from error


def file_sha256(path: Path) -> str:
    """Return the hash (hex) of a file of any size."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def evict(folder: Path, keep: Path) -> None:
    """Remove copies that were not used for :data:`MAX_IDLE` seconds, and of the others the least
    recently used beyond :data:`MAX_BYTES`; none that was used within :data:`IN_USE` seconds.

    Args:
        folder: of the copies.
        keep: the newest one, whose time of change is now.
    """
    now, total = keep.stat().st_mtime, 0
    copies = []
    for path in folder.iterdir():
        if path.name.endswith((".pth", UNFINISHED)):
            with suppress(FileNotFoundError):  # another process evicts too
                copies.append((path.stat().st_mtime, path.stat().st_size, path))
    for used, size, path in sorted(copies, reverse=True):
        total += size
        idle = now - used
        abandoned = path.name.endswith(UNFINISHED) or idle > MAX_IDLE or total > MAX_BYTES
        if abandoned and idle > IN_USE:
            path.unlink(missing_ok=True)


def _whole_copy(copies: Iterable[Path]) -> Path | None:
    """One of the copies of a file that was not changed since; changed ones are removed."""
    for copy in sorted(copies):
        if file_sha256(copy) == copy.stem.partition("-")[2]:
            os.utime(copy)
            return copy
        copy.unlink(missing_ok=True)
    return None


def _write(folder: Path, source: str, content: dict[str, Any]) -> Path:
    """Write a copy under a name of its own, and rename it when it is whole."""
    descriptor, name = tempfile.mkstemp(suffix=UNFINISHED, dir=folder)  # readable by us alone
    unfinished = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            torch.save(content, file)
        copy = folder / f"{source}-{file_sha256(unfinished)}.pth"
        unfinished.replace(copy)
        return copy
    except RuntimeError as error:  # what PyTorch makes of a full disk
        raise error.__context__ if isinstance(error.__context__, OSError) else error from None
    finally:
        with suppress(OSError):
            unfinished.unlink()
