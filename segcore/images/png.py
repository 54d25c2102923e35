"""Read the chunks of PNG files, and check that all pixels are there.

Pillow reads the pixels, but returns black ones where the data end early, ignores checksums, and
decodes a file to find its orientation. This module covers these cases.
"""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from PIL import Image

from segcore.errors import UserError, printable

CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
MAX_RATIO = 1032  # zlib's highest compression ratio
ADAM7 = (  # left, top, step to the right, step down, of its passes
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
BLOCK = 1 << 20  # bytes that are inflated at a time


class Layout(NamedTuple):
    """The contents of a PNG file's chunks.

    Attributes:
        width, height: in pixels.
        bits: of a sample: 1, 2, 4, 8 or 16.
        channels: samples of a pixel.
        interlaced: whether its rows are stored in seven passes.
        significant_bits: of the first channel, from ``sBIT``; ``bits`` without it.
        exif: the content of ``eXIf``; empty without it.
        compressed: bytes of the compressed pixels.
    """

    width: int
    height: int
    bits: int
    channels: int
    interlaced: bool
    significant_bits: int
    exif: bytes
    compressed: int

    @property
    def raw_bytes(self) -> int:
        """Bytes of the decompressed pixels, with one byte per row for its filter."""
        if not self.interlaced:
            return self._bytes(self.width, self.height)
        passes = (
            (-(-(self.width - x) // across), -(-(self.height - y) // down))
            for x, y, across, down in ADAM7
        )
        return sum(self._bytes(width, height) for width, height in passes if width > 0)

    def may_be_truncated(self, image: Image.Image) -> bool:
        """Return whether the data may have ended early: pixels that are not written are 0."""
        last = image.crop((0, self.height - 1, self.width, self.height))
        return self.interlaced or last.getbbox(alpha_only=False) is None

    def _bytes(self, width: int, height: int) -> int:
        return max(height, 0) * (1 + (width * self.bits * self.channels + 7) // 8)


def read_layout(path: Path) -> Layout:
    """Read the chunks of a PNG file, but not its pixels.

    Raises:
        ValueError: the file is no PNG, or ends early.
    """
    header, significant, exif, compressed = b"", 0, b"", 0
    with path.open("rb") as file:
        for name, length in _chunks(file):
            if name == b"IDAT":
                compressed += length
            elif name == b"IHDR":
                header = file.read(13)
            elif name == b"sBIT" and length:
                significant = file.read(1)[0]
            elif name == b"eXIf":
                exif = file.read(length)
    width, height, bits, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    if not 0 < significant < bits:
        significant = bits
    return Layout(
        width, height, bits, CHANNELS[colour], bool(interlaced), significant, exif, compressed
    )


def check_before_decoding(path: Path, layout: Layout) -> None:
    """Refuse a file that is too small for its pixels, or has a wrong checksum.

    Raises:
        UserError: names the file.
    """
    if layout.compressed * MAX_RATIO < layout.raw_bytes:
        raise UserError(_truncated(path, layout))
    with path.open("rb") as file:
        for name, length in _chunks(file):
            if name[:1].isupper():  # a critical chunk, which decoding needs
                checksum = zlib.crc32(name)
                while length:
                    block = file.read(min(length, BLOCK))
                    checksum, length = zlib.crc32(block, checksum), length - len(block)
                if file.read(4) != struct.pack(">I", checksum):
                    raise UserError(
                        f"cannot read {path}: it is damaged (wrong checksum of {printable(name)}): "
                        "replace it"
                    )


def check_all_pixels(path: Path, layout: Layout) -> None:
    """Refuse a file whose pixel data end early, by decompressing them once more.

    Raises:
        UserError: names the file.
    """
    missing, inflater = layout.raw_bytes, zlib.decompressobj()
    with path.open("rb") as file:
        for name, length in _chunks(file):
            while name == b"IDAT" and length and missing > 0 and not inflater.eof:
                block = file.read(min(length, BLOCK))
                length -= len(block)
                while block and missing > 0:
                    missing -= len(inflater.decompress(block, BLOCK))
                    block = inflater.unconsumed_tail
    if missing > 0:
        raise UserError(_truncated(path, layout))


def _truncated(path: Path, layout: Layout) -> str:
    return (
        f"cannot read {path}: its data end before all of its {layout.width} x {layout.height} "
        "pixels: replace it"
    )


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Yield name and length of each chunk, with the file positioned at its content."""
    position = 8
    size = file.seek(0, 2)
    name = b""
    while name != b"IEND":
        file.seek(position)
        length, name = struct.unpack(">I4s", file.read(8))
        position += 12 + length
        if position > size:
            raise ValueError(f"chunk {name!r} ends behind the file")
        yield name, length
