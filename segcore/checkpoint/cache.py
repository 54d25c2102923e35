"""The cache: a folder that is the user's alone, with a folder for every kind of file in it.

Everything in it can be made or downloaded again. ``CATRANK_CACHE`` names another folder than
``~/.cache/catrank``.
"""

import os
import shutil
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from segcore.errors import UserError, printable
from segcore.runtime.files import user_path

# What the folders hold, for people. Besides, "records" holds the hashes of downloads, which outlive
# them: a file that its server has exchanged since is noticed at the next download.
KINDS = {
    "checkpoints": "copies of checkpoints in Detectron2's format",
    "downloads": "downloaded checkpoints",
    "shards": "where the image-text pairs of tar shards are",
}


@dataclass(frozen=True)
class CacheUsage:
    """What the cache holds of one kind.

    Attributes:
        kind: a key of :data:`KINDS`, the name of the folder.
        folder: its path.
        files: how many there are.
        bytes: how large they are together.
    """

    kind: str
    folder: Path
    files: int
    bytes: int


def cache_root() -> Path:
    """Return the folder of the cache, which need not be there."""
    return user_path(os.environ.get("CATRANK_CACHE") or Path.home() / ".cache" / "catrank")


def private_folder(kind: str) -> Path:
    """Return the folder of a kind of files, created if absent; only the user may open it.

    Raises:
        UserError: it belongs to another user, or cannot be created.
    """
    folder = cache_root() / kind
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


def cache_summary() -> list[CacheUsage]:
    """Return what the cache holds, kind by kind; nothing is made or changed."""
    usage = []
    for kind in KINDS:
        folder = cache_root() / kind
        sizes = []
        for path in folder.rglob("*"):
            with suppress(OSError):  # removed meanwhile
                about = path.lstat()
                if stat.S_ISREG(about.st_mode):
                    sizes.append(about.st_size)
        usage.append(CacheUsage(kind, folder, len(sizes), sum(sizes)))
    return usage


def clean(kinds: Sequence[str] = tuple(KINDS)) -> list[CacheUsage]:
    """Remove all files of some kinds from the cache; return what was there.

    Args:
        kinds: keys of :data:`KINDS`; by default all.

    Raises:
        UserError: there is no such kind, or a file cannot be removed.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise UserError(f"the cache has no {printable(kind)!r}: it has {' and '.join(KINDS)}")
    before = [usage for usage in cache_summary() if usage.kind in kinds]
    for usage in before:
        if usage.folder.exists():
            private_folder(usage.kind)
            try:
                shutil.rmtree(usage.folder)
            except OSError as error:
                raise UserError(
                    f"{printable(usage.folder)} cannot be removed: {error.strerror or error}"
                ) from error
    return before
