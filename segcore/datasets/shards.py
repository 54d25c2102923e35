"""Index tar shards of image-text pairs, in the layout of webdataset and img2dataset.

A pair is an image (``.jpg``, ``.jpeg``, ``.png``, ``.webp``) and a caption (``.txt``, ``.text``) of
one stem, side by side in the archive; other members are skipped. The index holds where their bytes
are, so that any pair can be read directly and a training can resume at any pair. Nothing is
extracted, and no size of a header is trusted.
"""

import codecs
import hashlib
import re
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from segcore.checkpoint.cache import private_folder
from segcore.errors import UserError
from segcore.runtime.files import writing

IMAGES = frozenset(("jpg", "jpeg", "png", "webp"))
TEXTS = frozenset(("txt", "text"))
MAGIC = re.compile(rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|RIFF....WEBP", re.DOTALL)
MAX_IMAGE = 64 << 20  # bytes of an image
MAX_CAPTION = 8192  # bytes of a caption that are read
MAX_HEADER = 1 << 20  # bytes of the long names of a member
BLOCK = tarfile.BLOCKSIZE
STEM = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]*)", re.DOTALL)
VERSION = 1  # of the index; increased when the same shard gets another one

# What is counted; the order is that of the stored numbers.
PROBLEMS = (
    "without an image or a caption",
    "with an image that is none",
    "with an empty caption",
    "with a caption that is not UTF-8",
    "with an image of over 64 MiB",
    "damaged or truncated shards",
)
INCOMPLETE, NO_IMAGE, EMPTY, ENCODING, LARGE, DAMAGED = range(len(PROBLEMS))


@dataclass
class ShardIndex:
    """Where the pairs of a shard are.

    Attributes:
        pairs: (N, 4) uint32: the block where an image begins, its bytes, the block where its
            caption begins, and the bytes of it that are read.
        problems: how many pairs, or shards, were skipped for each of ``PROBLEMS``.
    """

    pairs: np.ndarray
    problems: Counter[int] = field(default_factory=Counter)


def read_index(path: Path) -> ShardIndex:
    """Return the index of a shard, from the cache if the file is unchanged.

    Raises:
        UserError: the shard cannot be read, or the cache cannot be written.
    """
    try:
        about = path.stat()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    key = f"{VERSION} {path.resolve()} {about.st_size} {about.st_mtime_ns}"
    cached = private_folder("shards") / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npz"
    index = _load(cached)
    if index is None:
        index = index_shard(path)
        with writing(cached) as file:
            counts = [index.problems[number] for number in range(len(PROBLEMS))]
            np.savez(file, pairs=index.pairs, problems=np.array(counts))
    return index


def _load(cached: Path) -> ShardIndex | None:
    """Return the index of a file of the cache; None if there is no sound one."""
    try:
        with np.load(cached, allow_pickle=False) as stored:
            problems = Counter(dict(enumerate(stored["problems"].tolist())))
            return ShardIndex(stored["pairs"], problems)
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
        return None


def index_shard(path: Path) -> ShardIndex:
    """Read the headers of a shard, and the first bytes of images and captions.

    Raises:
        UserError: the file cannot be opened.
    """
    problems: Counter[int] = Counter()
    rows = []
    try:
        with path.open("rb") as file:
            for group in _groups(read_members(file, path.stat().st_size, problems)):
                row = _pair(file, group, problems)
                if row is not None:
                    rows.append(row)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    return ShardIndex(np.array(rows, np.uint32).reshape(-1, 4), problems)


@dataclass(frozen=True)
class Member:
    """A file in an archive: its name, that name's stem and extension, where its bytes begin, how
    many they are."""

    name: str
    stem: str
    extension: str
    offset: int
    size: int


class _Headers:
    """A file that returns at most the header of a member at a time."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= MAX_HEADER:
            raise tarfile.ReadError("a header is too long")
        return self._file.read(size)


def read_members(file: BinaryIO, size: int, problems: Counter[int]) -> Iterator[Member]:
    """Yield the complete regular files of an archive; count it if it is damaged or truncated."""
    try:
        with tarfile.open(fileobj=_Headers(file), mode="r:") as archive:
            while (member := archive.next()) is not None:
                archive.members.clear()  # it would keep them all
                found = STEM.fullmatch(member.name)
                if member.offset_data + member.size > size or member.size < 0:
                    problems[DAMAGED] += 1
                    return
                if member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and found:
                    extension = found[2].rpartition(".")[2].lower()
                    yield Member(member.name, found[1], extension, member.offset_data, member.size)
            end = archive.offset
    # Damaged headers make tarfile raise nearly anything.
    except (tarfile.TarError, ValueError, OverflowError, RecursionError, EOFError, KeyError):
        problems[DAMAGED] += 1
        return
    file.seek(end)
    if file.read(BLOCK) != bytes(BLOCK):  # two empty blocks end an archive
        problems[DAMAGED] += 1


def _groups(members: Iterator[Member]) -> Iterator[list[Member]]:
    """Yield the images and captions of each stem; those of one stem are side by side."""
    group: list[Member] = []
    stem = None
    for member in members:
        if member.stem != stem:
            if group:
                yield group
            stem, group = member.stem, []
        if member.extension in IMAGES | TEXTS and len(group) < 4:
            group.append(member)
    if group:
        yield group


def _pair(file: BinaryIO, group: list[Member], problems: Counter[int]) -> list[int] | None:
    """Return the row of a pair; None, and count why, if it cannot be used."""
    image = next((member for member in group if member.extension in IMAGES), None)
    text = next((member for member in group if member.extension in TEXTS), None)
    if image is None or text is None:
        problem = INCOMPLETE
    elif image.size > MAX_IMAGE:
        problem = LARGE
    elif not MAGIC.match(_read(file, image.offset, 16)):
        problem = NO_IMAGE
    else:
        size = min(text.size, MAX_CAPTION)
        try:
            if decode_caption(_read(file, text.offset, size)):
                return [image.offset // BLOCK, image.size, text.offset // BLOCK, size]
            problem = EMPTY
        except UnicodeDecodeError:
            problem = ENCODING
    problems[problem] += 1
    return None


def decode_caption(data: bytes) -> str:
    """Return the caption of at most ``MAX_CAPTION`` bytes, in one line; "" if it is empty.

    Raises:
        UnicodeDecodeError: it is not UTF-8. The last character may be cut.
    """
    text = codecs.getincrementaldecoder("utf-8-sig")().decode(data, final=len(data) < MAX_CAPTION)
    return " ".join(text.split())


def _read(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)
