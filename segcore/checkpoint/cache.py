"""Cache converted copies of checkpoints, in Detectron2's format, in a private folder of the user.

A copy is called ``<hash of the file>-<hash of the copy>.pth``. It is found by the contents of the
file, not by name or time, and a changed copy no longer has the hash in its name.
"""

import hashlib
import os
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from segcore.errors import UserError, printable
from segcore.runtime.files import user_path


def cached_copy(path: Path, read: Callable[[Path], dict[str, Any]]) -> Path:
    """Return a ``.pth`` copy of a file's contents; write it if the cache has none.

    Args:
        path: of a file.
        read: returns the file's contents, which ``torch.save`` can write.

    Raises:
        UserError: the file changes while it is read, or the cache cannot be used.
    """
    folder = _private_folder()
    try:
        before = path.stat()
        source = file_sha256(path)
        for copy in sorted(folder.glob(f"{source}-*.pth")):
            if file_sha256(copy) == copy.stem.partition("-")[2]:
                return copy
            copy.unlink(missing_ok=True)
        content, after = read(path), path.stat()
        if (before.st_mtime_ns, before.st_ino) != (after.st_mtime_ns, after.st_ino):
            raise UserError(f"{path} changed while it was read: start again once it is whole")
        return _write(folder, source, content)
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


def _write(folder: Path, source: str, content: dict[str, Any]) -> Path:
    """Write a copy to a temporary file, and rename it when it is complete."""
    descriptor, name = tempfile.mkstemp(suffix=".unfinished", dir=folder)  # for the user alone
    partial = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            torch.save(content, file)
        copy = folder / f"{source}-{file_sha256(partial)}.pth"
        partial.replace(copy)
        return copy
    except RuntimeError as error:  # PyTorch's error for a full disk
        raise error.__context__ if isinstance(error.__context__, OSError) else error from None
    finally:
        with suppress(OSError):
            partial.unlink()


def _private_folder() -> Path:
    """Return the folder of copies, created if absent, which only the user may read and write.

    Raises:
        UserError: it belongs to another user, or cannot be created.
    """
    root = user_path(os.environ.get("CATRANK_CACHE") or Path.home() / ".cache" / "catrank")
    folder = root / "checkpoints"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = folder.lstat()
        if not stat.S_ISDIR(about.st_mode) or (
            hasattr(os, "getuid") and about.st_uid != os.getuid()
        ):
            raise UserError(
                f"the cache {printable(folder)} belongs to another user: set CATRANK_CACHE to a "
                "folder of your own"
            )
        folder.chmod(0o700)
    except OSError as error:
        raise UserError(
            f"the cache {printable(folder)} cannot be used: {error.strerror}; set CATRANK_CACHE to "
            "a folder of your own"
        ) from error
    return folder
