"""Whether the last band of a JPEG 2000 file is opacity: Pillow takes every fourth band for it."""

import struct
from pathlib import Path

HEAD = 4096  # bytes in which the header box is looked for
CHANNEL = 6  # bytes that describe one
OPACITY = (1, 2)  # types of a channel: opacity, and opacity that colours are multiplied by


def says_opacity(path: Path) -> bool:
    """Return whether a channel is defined as opacity; a bare codestream defines none."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    at = head.find(b"cdef")
    if at < 0 or len(head) < at + 6:
        return False
    (count,) = struct.unpack_from(">H", head, at + 4)
    described = head[at + 6 : at + 6 + count * CHANNEL]
    described = described[: len(described) // CHANNEL * CHANNEL]
    return any(kind in OPACITY for _, kind, _ in struct.iter_unpack(">HHH", described))
