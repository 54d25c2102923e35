"""Checkpoints by address: downloaded once into the cache, verified, and found there afterwards.

The file of a source is ``downloads/<folder>/<name>`` in the cache. It may be put there by hand just
as well. ``records/<folder>.json`` keeps its hash, so that a file that changes later, here or at its
server, is refused.
"""

import hashlib
import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from filelock import FileLock, Timeout

from segcore.checkpoint import hub
from segcore.checkpoint.cache import private_folder
from segcore.checkpoint.formats import MAX_CHECKPOINT_BYTES, SUFFIXES, damage
from segcore.checkpoint.http import DownloadError, download, forget
from segcore.errors import UserError, printable
from segcore.runtime.files import check_file_name, write_text

# Google Drive shows a page about a file, and a warning before large ones; this is the file itself.
DRIVE = "drive.google.com"
DRIVE_FILE = "https://drive.usercontent.google.com/download?id={}&export=download&confirm=t"
SCHEMES = ("http", "https", hub.SCHEME)
PART = ".part"  # begins with a dot: no checkpoint that _present would find

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """A checkpoint that can be downloaded, and what is known of it.

    Attributes:
        address: http, https or hf://OWNER/REPOSITORY/FILE.
        folder: name of its folder in the cache.
        name: of the file; "" where only the server says it.
        size: in bytes.
        sha256, md5: hashes (hex), or how they begin.
    """

    address: str
    folder: str
    name: str
    size: int | None = None
    sha256: str | None = None
    md5: str | None = None

    @classmethod
    def of_address(cls, address: str) -> "Source":
        """The file of an address that a person typed.

        Raises:
            UserError: it is no address, or the name in it cannot be one of a file.
        """
        try:
            parts = urlsplit(address)
        except ValueError as error:
            raise UserError(f"{printable(address)} is no address: {error}") from error
        name = unquote(parts.path.rpartition("/")[2])
        name = name if name.lower().endswith(SUFFIXES) else ""
        host = re.sub(r"[^a-z0-9.-]", "-", (parts.hostname or "").lower()).strip(".")[:60]
        folder = f"{host}-{hashlib.sha256(address.encode()).hexdigest()[:16]}"
        return cls(address, folder, name and check_file_name(name, printable(address)))


def is_address(text: str) -> bool:
    """Return whether a text is an address that :func:`fetch` understands."""
    return text.partition("://")[0].lower() in SCHEMES and "://" in text


def local_copy(source: Source) -> Path | None:
    """Return the file of a source if it is in the cache, without verifying it; None if not."""
    return _present(private_folder("downloads") / source.folder, source.name)


def fetch(source: Source, *, progress: bool = True) -> Path:
    """Return the file of a source, downloaded where it is not in the cache yet.

    One process downloads; others that want the same file wait for it.

    Args:
        source: what to download.
        progress: show a progress bar, where standard error is a terminal.

    Raises:
        UserError: the file cannot be downloaded, or is not the one that is known or was downloaded
            first.
    """
    folder = private_folder("downloads") / source.folder
    record = private_folder("records") / f"{source.folder}.json"
    try:
        with _only_process(record.with_suffix(".lock"), source):
            folder.mkdir(mode=0o700, exist_ok=True)
            path = _present(folder, source.name)
            if path is None:
                return _download(source, folder, record, progress)
            if reason := _verify(path, source, record):
                raise UserError(
                    f"{printable(path)} is not what is at {printable(source.address)}: {reason}; "
                    "remove the file to download it again"
                )
            return path
    except OSError as error:
        raise UserError(
            f"{printable(folder)} cannot be written: {error.strerror or error}; set CATRANK_CACHE "
            "to a folder with more space"
        ) from error


def by_hand(source: Source) -> str:
    """Say where a person finds a file, and where to put it so that it is found."""
    address = hub.web_address(source.address) if hub.is_hub(source.address) else source.address
    folder = private_folder("downloads") / source.folder
    goal = f"as {folder / source.name}" if source.name else f"in {folder}"
    return f"fetch {printable(address, 500)} by other means and save it {printable(goal, 500)}"


def _download(source: Source, folder: Path, record: Path, progress: bool) -> Path:
    """Download into a partial file; verify it, and only then give it its name."""
    part, limit = folder / PART, source.size or MAX_CHECKPOINT_BYTES
    logger.info("Downloading %s to %s", source.address, folder)
    try:
        name, sha256 = _transfer(source, part, limit, progress)
    except DownloadError as error:
        raise UserError(
            f"{printable(source.address)} cannot be downloaded: {error}; {by_hand(source)}"
        ) from error
    part.chmod(0o600)
    whole = part.rename(part.with_suffix(Path(name).suffix))  # says what to expect in it
    forget(part)
    if reason := _verify(whole, source, record, sha256):
        whole.unlink()
        raise UserError(
            f"{printable(source.address)} is not the expected file, and was removed: {reason}"
        )
    return whole.rename(folder / name)


def _transfer(source: Source, part: Path, limit: int, progress: bool) -> tuple[str, str | None]:
    """Receive a file; return its name, and the SHA-256 (hex) that its host says, if it does."""
    sha256 = None
    if hub.is_hub(source.address):
        name = source.name
        sha256 = hub.download(source.address, part, limit=limit, progress=progress)
    else:
        title = source.name or urlsplit(source.address).hostname or ""
        address = direct(source.address)
        named = download(address, part, limit=limit, title=title, progress=progress)
        name = source.name or _name_in(named)
    if not name:
        forget(part)
        raise DownloadError(
            f"no name says what kind of checkpoint it is; it would end with {' or '.join(SUFFIXES)}"
        )
    return name, sha256


def _verify(path: Path, source: Source, record: Path, promised: str | None = None) -> str:
    """Say why a file is not that of a source, "" if it is; the first file of a source is recorded.

    Args:
        path: of the file.
        source: with what is known of it.
        record: path of the record, which need not be there.
        promised: SHA-256 that its host has named.
    """
    known, about = _read_record(record), path.stat()
    seen = [about.st_size, about.st_mtime_ns]
    if known.get("seen") == seen and promised is None:
        return ""
    if source.size is not None and about.st_size != source.size:
        return f"it has {about.st_size} bytes, not {source.size}"
    if reason := damage(path):
        return reason
    sha256, md5 = _hashes(path)
    for kind, digest, expected in (
        ("SHA-256", sha256, source.sha256),
        ("SHA-256", sha256, promised),
        ("MD5", md5, source.md5),
    ):
        if expected and not digest.startswith(expected):
            return f"its {kind} is {digest}, not {expected}"
    if known and known["sha256"] != sha256:
        return (
            f"its SHA-256 is {sha256}, not {printable(known['sha256'])} as at the first download "
            f"(to accept the new file, remove {printable(record)})"
        )
    content = {"address": source.address, "sha256": sha256, "seen": seen}
    write_text(record, json.dumps(content) + "\n")
    return ""


def _hashes(path: Path) -> tuple[str, str]:
    """SHA-256 and MD5 (hex) of a file, read once."""
    digests = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            for digest in digests:
                digest.update(part)
    return digests[0].hexdigest(), digests[1].hexdigest()


def _read_record(record: Path) -> dict[str, Any]:
    """The record of a file: its ``sha256``, and the size and time at which it was verified last."""
    with suppress(OSError, ValueError):
        content = json.loads(record.read_text("utf-8"))
        if isinstance(content, dict) and isinstance(content.get("sha256"), str):
            return content
    return {}


def _present(folder: Path, name: str) -> Path | None:
    """The checkpoint in a folder: that of a name, or the only one, which a person may have put
    there under another name."""
    if name and (folder / name).is_file():
        return folder / name
    found = [
        path
        for path in (folder.iterdir() if folder.is_dir() else ())
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    ]
    return found[0] if len(found) == 1 else None


def direct(address: str) -> str:
    """Return where the file itself is, for addresses of Google Drive's page about a file."""
    parts = urlsplit(address)
    if parts.hostname != DRIVE:
        return address
    named = re.search(r"/file/d/([\w-]+)", parts.path)
    number = named[1] if named else parse_qs(parts.query).get("id", [""])[0]
    return DRIVE_FILE.format(number) if number else address


def _name_in(content_disposition: str) -> str:
    """The name that a server gives a file; "" where it gives none of a checkpoint."""
    named = re.search(r'filename="?([^";]+)"?', content_disposition)
    name = named[1].strip() if named else ""
    if not name.lower().endswith(SUFFIXES):
        return ""
    return check_file_name(name, "the name that the server gives")


@contextmanager
def _only_process(lock: Path, source: Source) -> Iterator[None]:
    """Hold a lock; wait while another process downloads the same file."""
    held = FileLock(lock, mode=0o600)
    try:
        try:
            held.acquire(timeout=0)
        except Timeout:
            logger.info("Waiting for another process, which downloads %s", source.address)
            held.acquire()
        yield
    finally:
        held.release()
