"""Where images are: folders, patterns, lists of paths, Parquet of paths, webdataset archives.

Each is a path of this machine or an address that fsspec reads. Listing yields an :class:`Item` an
image: its key, and how to read its bytes when it is its turn. Nothing is extracted from an archive.
"""

import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from catrank.inputs import (
    MAX_DOWNLOAD,
    address_errors,
    check_download,
    is_address,
    read_content,
)
from segcore.datasets.shards import read_members
from segcore.errors import MESSAGE_CHARACTERS, UserError, printable
from segcore.images import read_image
from segcore.images.folders import image_suffixes, natural_order
from segcore.runtime.files import user_path

ARCHIVE, LIST, TABLE = ".tar", ".txt", ".parquet"
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
MAX_PIXELS = 64_000_000  # of an image: several are in memory at once
MAX_LINE = 1 << 16  # bytes of a path in a list


@dataclass(frozen=True)
class Item:
    """An image that is not read yet.

    Attributes:
        key: identifies it among all images of the source; valid Unicode.
        path: of its file or archive, or its address, in the bytes of the file system.
        offset: where it begins in an archive; -1 of a file.
        size: its bytes in an archive; -1 of a file.
        problem: why it cannot be read, where listing has found that out; else "".
    """

    key: str
    path: bytes
    offset: int = -1
    size: int = -1
    problem: str = ""

    @property
    def location(self) -> str:
        """The path or address."""
        return os.fsdecode(self.path)


def read_item(item: Item) -> np.ndarray:
    """Return the pixels of an image, (H, W, 3) uint8, RGB.

    Raises:
        UserError: the message names the key, and is the same on every machine.
    """
    try:
        if item.problem:
            raise UserError(item.problem)
        if item.offset < 0 and not is_address(item.location):
            return read_image(item.location, max_pixels=MAX_PIXELS)
        return read_content(_content(item), item.key, max_pixels=MAX_PIXELS)
    except (UserError, OSError, ValueError, MemoryError) as error:
        text = str(error) or type(error).__name__
        text = text.replace(item.location, item.key)
        raise UserError(printable(text, MESSAGE_CHARACTERS)) from error


def _content(item: Item) -> bytes:
    """The bytes of an image in an archive, or behind an address."""
    check_download(item.size, item.key)
    with address_errors(item.key):
        if not is_address(item.location):
            with Path(item.location).open("rb") as file:
                file.seek(item.offset)
                return file.read(item.size)
        system, path = fsspec.core.url_to_fs(item.location)
        if item.offset >= 0:
            content: bytes = system.cat_file(path, start=item.offset, end=item.offset + item.size)
            return content
        with system.open(path, "rb") as file:
            content = file.read(MAX_DOWNLOAD + 1)
    check_download(len(content), item.key)
    return content


# ---- listing ---------------------------------------------------------------------------------


def list_items(inputs: Sequence[str], column: str = "path") -> Iterator[Item]:
    """Yield the images of all inputs, in an order that depends on names alone.

    The key of an image in a folder is its path below that folder, after the folder's name where
    there are several inputs; that of a pattern, a list or a table its path as it stands there; that
    in an archive the archive's own key, a slash and the member's name. Folders are listed with all
    below them, without hidden files. A key may occur several times.

    Args:
        inputs: paths, patterns or addresses: a folder, an image, a ``.tar``, a ``.txt`` with a
            path a line, a ``.parquet`` with a column of paths. Relative paths in the latter two
            begin at their folder.
        column: of the paths in Parquet files.

    Raises:
        UserError: an input is not there, cannot be read or holds no image.
    """
    for text in inputs:
        find = _find_address if is_address(text) else _find_path
        items = find(text, f"{text.rstrip('/')}/" if len(inputs) > 1 else "", column)
        first = next(items, None)
        if first is None:
            raise UserError(f"{printable(text)} holds no image")
        yield first
        yield from items


def _find_path(text: str, prefix: str, column: str) -> Iterator[Item]:
    path = user_path(text)
    if path.is_dir():
        for below in _walk(str(path), ""):
            yield from _image_or_archive(prefix + below, str(path / below))
    elif path.is_file():
        yield from _file(text, str(path.absolute()), column)
    else:
        names = sorted(glob.iglob(str(path), recursive=True), key=natural_order)  # noqa: PTH207
        files = [name for name in names if Path(name).is_file()]
        if not files:
            raise UserError(
                f"{printable(text)} is no file, folder or pattern that can be read here: give "
                "images, a folder, a .tar, a .txt or .parquet with paths, or a quoted pattern"
            )
        for name in files:
            yield from _file(name, str(Path(name).absolute()), column)


def _walk(folder: str, below: str) -> Iterator[str]:
    """Paths of the images and archives below a folder: files in natural order, then subfolders."""
    try:
        with os.scandir(Path(folder) / below) as entries:
            found = sorted(
                (entry.name, entry.is_dir(follow_symlinks=False))
                for entry in entries
                if not entry.name.startswith(".")
            )
    except OSError as error:
        raise UserError(
            f"{printable(Path(folder) / below)} cannot be listed: {error.strerror}"
        ) from error
    names = [name for name, is_folder in found if not is_folder and _is_listed(name)]
    for name in sorted(names, key=natural_order):
        yield below + name
    for name in sorted((name for name, is_folder in found if is_folder), key=natural_order):
        yield from _walk(folder, f"{below}{name}/")


def _find_address(text: str, prefix: str, column: str) -> Iterator[Item]:
    with address_errors(printable(text), "listed"):
        system, path = fsspec.core.url_to_fs(text)
        if _suffix(path) in (*image_suffixes(), ARCHIVE, LIST, TABLE) and not glob.has_magic(path):
            yield from _file(text, text, column)
            return
        if glob.has_magic(path):
            names = sorted(system.glob(path), key=natural_order)
            for name in names:
                address = system.unstrip_protocol(name)
                yield from _file(address, address, column)
            return
        for parent, folders, files in system.walk(path):
            folders.sort(key=natural_order)
            for name in sorted(files, key=natural_order):
                whole = f"{parent.rstrip('/')}/{name}"
                below = whole[len(path.rstrip("/")) + 1 :]
                if _is_listed(name) and not any(p.startswith(".") for p in below.split("/")):
                    address = system.unstrip_protocol(whole)
                    yield from _image_or_archive(prefix + below, address)


def _file(key: str, location: str, column: str) -> Iterator[Item]:
    """The images of a file that an input names."""
    suffix = _suffix(location)
    if suffix == LIST:
        yield from _listed(_lines(location), location)
    elif suffix == TABLE:
        yield from _listed(_cells(location, column), location)
    else:
        yield from _image_or_archive(key, location)


def _listed(paths: Iterator[str], source: str) -> Iterator[Item]:
    """The images of paths in a list; relative ones begin at the folder of the list."""
    parent = source.rpartition("/")[0]
    for path in paths:
        is_whole = path.startswith("/") or is_address(path)
        yield from _image_or_archive(path, path if is_whole else f"{parent}/{path}")


def _lines(location: str) -> Iterator[str]:
    with _open(location) as file:
        while line := file.readline(MAX_LINE):
            if path := os.fsdecode(line.strip(b"\r\n")).strip():
                yield path


def _cells(location: str, column: str) -> Iterator[str]:
    name = printable(location)
    try:
        with _open(location) as file, pq.ParquetFile(file) as table:
            if column not in table.schema_arrow.names:
                columns = ", ".join(map(printable, table.schema_arrow.names))
                raise UserError(f"{name} has no column {printable(column)}: name one of {columns}")
            for batch in table.iter_batches(columns=[column]):
                for path in batch.column(0).cast(pa.string()).to_pylist():
                    if not path:
                        raise UserError(f"{name}: a path in {printable(column)} is empty")
                    yield path
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{name} is no Parquet file of paths: {printable(error)}") from error


def _image_or_archive(key: str, location: str) -> Iterator[Item]:
    """The item of an image, or those of an archive."""
    if location.lower().endswith(COMPRESSED):
        raise UserError(
            f"{printable(location)} is compressed, so that its members cannot be read by their "
            "positions: decompress it to .tar"
        )
    if _suffix(location) == ARCHIVE:
        yield from _members(key, location)
    else:
        yield Item(_clean(key), os.fsencode(location))


def _members(key: str, location: str) -> Iterator[Item]:
    """The images of an archive, and an item with a problem where it is damaged or cut short."""
    problems: Counter[int] = Counter()
    make = partial(Item, path=os.fsencode(location))
    suffixes = image_suffixes()
    with _open(location) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        for member in read_members(file, size, problems):
            if f".{member.extension}" in suffixes:
                name = _clean(f"{key}/{member.name}")
                yield make(name, offset=member.offset, size=member.size)
    if problems:
        what = f"{_clean(key)} is damaged or cut short: what follows its last image is lost"
        yield make(_clean(key), problem=what)


def _open(location: str) -> BinaryIO:
    """A file for reading, with ``seek``.

    Raises:
        UserError: it cannot be opened.
    """
    try:
        if not is_address(location):
            return Path(location).open("rb")
        opened: Any = fsspec.open(location, "rb").open()
        return opened
    except Exception as error:  # each protocol's library raises errors of its own
        raise UserError(f"{printable(location)} cannot be read: {printable(error)}") from error


def _suffix(location: str) -> str:
    return PurePosixPath(location.partition("?")[0]).suffix.lower()


def _is_listed(name: str) -> bool:
    """Whether a file of a folder is an image or an archive."""
    return _suffix(name) in (*image_suffixes(), ARCHIVE) or name.lower().endswith(COMPRESSED)


def _clean(text: str) -> str:
    """Return a text in Unicode: other bytes of a name are written as ``\\xff``."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
