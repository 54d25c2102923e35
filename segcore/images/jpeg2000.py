"""Find out whether a JPEG 2000 file has an opacity channel: Pillow assumes it of every 4th band."""

import struct
from pathlib import Path

HEAD = 4096  # bytes that are searched for the header box
CHANNEL = 6  # bytes of a channel's description
OPACITY = (1, 2)  # channel types: opacity, and premultiplied opacity


def has_opacity(path: Path) -> bool:
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
