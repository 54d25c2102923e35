"""Read ``.pkl`` files of model zoos and what ``torch.save`` writes; nothing in them is executed.

Values are texts, numbers, containers, numpy arrays and tensors. :mod:`.pickle_machine` reads the
pickles, :mod:`.pickled_tensors` makes arrays and tensors.

Detectron2's stand-in (``d2lite``) has this file too, word for word: neither imports the other.
"""

import io
import zipfile
import zlib
from collections.abc import Mapping
from io import SEEK_END
from mmap import mmap
from pickle import UnpicklingError
from typing import IO, Any

from .pickle_machine import Budget, Constructor, damage_as_unpickling_error, finish, read_tree
from .pickled_tensors import STORAGE_KINDS, TENSORS, Storage

MAX_DIRECTORY = 8 << 20  # bytes of the list of entries of a zip: 100,000 tensors
_MAGIC = 0x1950A86A20F9469CFC6C  # began a file before torch.save wrote zips
_VERSION = 1001


class TorchScriptError(UnpicklingError):
    """The file is a TorchScript program, not a checkpoint."""


def load_pickle(file: IO[bytes]) -> Any:
    """Read one pickle.

    Args:
        file: open for reading bytes.

    Raises:
        pickle.UnpicklingError: it holds anything but numbers, strings, containers, arrays and
            tensors, is damaged, or claims more data than the file has.
    """
    content = _content(file)
    budget = Budget(len(content))
    with damage_as_unpickling_error():
        return finish(read_tree(_stream(content), _VOCABULARY, budget), budget)


def load_torch(file: IO[bytes]) -> Any:
    """Read a file of ``torch.save``, a zip or the older format; verify a zip's checksums.

    The tensors refer to the bytes that were read, without another copy.

    Args:
        file: open for reading bytes.

    Raises:
        pickle.UnpicklingError: as of :func:`load_pickle`.
        TorchScriptError: it is a TorchScript program.
    """
    content = _content(file)
    budget = Budget(len(content))
    with damage_as_unpickling_error():
        if content[:4] == b"PK\3\4":
            archive = _Archive(content)
            pickled = io.BytesIO(archive.read("data.pkl"))
            tree = read_tree(pickled, _VOCABULARY, budget, archive.storage)
        else:
            tree = _read_legacy(content, _VOCABULARY, budget)
        return finish(tree, budget)


def _content(file: IO[bytes]) -> bytearray | mmap:
    """Copy a file to memory: a run may overwrite the file that it resumes from."""
    size = file.seek(0, SEEK_END)
    file.seek(0)
    content = mmap(-1, size) if size else bytearray()
    file.readinto(content)
    return content


def _stream(content: bytearray | mmap) -> Any:
    return content if isinstance(content, mmap) else io.BytesIO(content)


class _Archive:
    """A zip of ``torch.save``: a pickle, and an entry for each storage."""

    def __init__(self, content: bytearray | mmap) -> None:
        self.content = content
        self.storages: dict[str, Storage] = {}
        try:
            with zipfile.ZipFile(_Bounded(_stream(content))) as archive:
                entries = archive.infolist()
        except zipfile.BadZipFile as error:
            raise UnpicklingError("it is cut short or damaged; fetch it again") from error
        self.entries = {entry.filename: entry for entry in entries}
        if any(name.endswith("/constants.pkl") for name in self.entries):
            raise TorchScriptError("it is a TorchScript archive, a program")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise UnpicklingError("it is a compressed archive, which PyTorch does not write")
        heads = [name for name in self.entries if name.endswith("/data.pkl")]
        if len(heads) != 1 or sum(entry.file_size for entry in entries) > len(content):
            raise UnpicklingError("it is no checkpoint")
        self.head = heads[0].removesuffix("data.pkl")
        # PyTorch can be set to omit the checksums, and then writes zeros.
        self.has_sums = any(entry.CRC for entry in entries)
        if f"{self.head}byteorder" in self.entries and self.read("byteorder") != b"little":
            raise UnpicklingError("it was written on a machine with another byte order")

    def find(self, name: str) -> tuple[int, int]:
        """Return the start and end of the bytes of an entry; verify their checksum."""
        entry = self.entries[self.head + name]
        # A header of 30 bytes, which ends with the lengths of the name and of the extra field.
        header = self.content[entry.header_offset : entry.header_offset + 30]
        start = entry.header_offset + 30
        start += int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        end = start + entry.file_size
        if header[:4] != b"PK\3\4" or end > len(self.content):
            raise UnpicklingError("it is cut short or damaged")
        if self.has_sums and zlib.crc32(memoryview(self.content)[start:end]) != entry.CRC:
            raise UnpicklingError(f"it is damaged: the checksum of {name} is wrong")
        return start, end

    def read(self, name: str) -> bytes:
        """Return the bytes of an entry."""
        start, end = self.find(name)
        return bytes(self.content[start:end])

    def storage(self, pid: Any) -> Storage:
        """Return the storage of a persistent id."""
        key, storage = Storage.described(pid)
        if key not in self.storages:
            start, end = self.find(f"data/{key}")
            if end - start != storage.nbytes:
                raise UnpicklingError("it is damaged: a storage has two sizes")
            storage.fill(self.content, start)
            self.storages[key] = storage
        return self.storages[key].same(storage)


class _Bounded:
    """A file for ``zipfile`` that bounds the size of the list of entries."""

    def __init__(self, stream: Any) -> None:
        self.stream, self.seek, self.tell = stream, stream.seek, stream.tell

    def read(self, size: int = -1) -> bytes:
        """Read a few bytes."""
        if size > MAX_DIRECTORY:
            raise UnpicklingError("it is an archive of more entries than a checkpoint has")
        return self.stream.read(size)


def _read_legacy(content: bytearray | mmap, vocabulary: Mapping[str, Any], budget: Budget) -> Any:
    """Read the older format of ``torch.save``: five pickles, followed by the numbers."""
    stream = _stream(content)
    storages: dict[str, Storage] = {}

    def persistent(pid: Any) -> Storage:
        key, storage = Storage.described(pid)
        return storages.setdefault(key, storage).same(storage)

    magic, version, system = (read_tree(stream, {}, budget) for _ in range(3))
    if type(magic) is not int or magic != _MAGIC or version != _VERSION:
        raise UnpicklingError("it is no checkpoint")
    if system["little_endian"] is not True:
        raise UnpicklingError("it was written on a machine with another byte order")
    tree = read_tree(stream, vocabulary, budget, persistent)
    for key in read_tree(stream, {}, budget):
        storage = storages.pop(key)
        if stream.read(8) != storage.count.to_bytes(8, "little"):
            raise UnpicklingError("it is damaged: a storage has two sizes")
        start = stream.tell()
        storage.fill(content, start)
        stream.seek(start + storage.nbytes)
    return tree


def _load_from_bytes(budget: Budget, data: bytes) -> Storage:
    """Read a storage that was pickled alone: a file of ``torch.save`` inside of this one."""
    budget.take(len(data))
    storage = _read_legacy(bytearray(data), STORAGE_KINDS, budget)
    if not isinstance(storage, Storage):
        raise UnpicklingError("it is damaged: the numbers of a tensor are something else")
    return storage


_VOCABULARY = {**TENSORS, "torch.storage._load_from_bytes": Constructor(_load_from_bytes)}
