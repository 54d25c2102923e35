"""List the images of a folder in natural order.

The demo, data sets and folders of frames use the same list, so that they agree on its files.
"""

import os
import re
from pathlib import Path

from PIL import Image

from segcore.images.reading import FORMATS

# Suffixes of image formats that this project does not read (AVIF if Pillow lacks it). Listing
# includes them, so that reading reports them instead of skipping them.
UNREADABLE = {
    ".avif": "AVIF",
    ".heic": "HEIC",
    ".heif": "HEIC",
    ".hif": "HEIC",
    ".jxl": "JPEG XL",
}


def image_suffixes() -> frozenset[str]:
    """Return the suffixes of image files, lower case with the dot.

    They include formats that cannot be read: reading such a file raises an error that names it.
    """
    readable = (end for end, name in Image.registered_extensions().items() if name in FORMATS)
    return frozenset((*readable, *UNREADABLE))


def list_images(
    folder: str | os.PathLike, *, below: bool = False, suffix: str | None = None
) -> list[Path]:
    """List the images of a folder in natural order; hidden files and folders are left out.

    Args:
        folder: to list.
        below: include its subfolders.
        suffix: end of the names, such as ``"_rgb.jpg"``; None lists every image.

    Returns:
        paths that begin with ``folder``, see :func:`natural_order`.

    Raises:
        OSError: the folder cannot be read.
    """
    folder = Path(folder)
    if below:
        os.scandir(folder).close()  # raises errors that rglob suppresses
    suffixes = image_suffixes()
    found = []
    for path in folder.rglob("*") if below else folder.iterdir():
        ends = path.suffix.lower() in suffixes if suffix is None else path.name.endswith(suffix)
        if ends and not is_hidden(path.relative_to(folder)) and not path.is_dir():
            found.append(path)
    return sorted(found, key=natural_order)


def natural_order(path: str | os.PathLike) -> tuple:
    """Return a key that sorts paths by name, where numbers count as numbers: 9 is before 10.

    Folders are compared first, then names without their suffixes.
    """
    path = Path(path)
    parts = (*path.parts[:-1], path.stem, path.name)
    return (*map(_texts_and_numbers, parts), str(path))  # 1.png and 01.png differ in the last


def is_hidden(path: str | os.PathLike) -> bool:
    """Return whether a part of a relative path begins with a dot."""
    return any(part.startswith(".") and part != ".." for part in Path(path).parts)


def _texts_and_numbers(name: str) -> tuple[str | int, ...]:
    """Return strings and numbers of a name in turn, beginning with a string."""
    parts = re.split(r"([0-9]+)", name)
    return tuple(int(part) if index % 2 else part for index, part in enumerate(parts))
