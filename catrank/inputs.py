"""What :meth:`catrank.Model.segment` takes: files, folders, patterns, addresses, arrays, lists.

An input is read when it is its turn, so a list of any length takes the memory of a batch.
"""

import glob
import itertools
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import ExifTags, Image
from torch import Tensor

from segcore.errors import UserError, printable
from segcore.images import MAX_PIXELS, read_image
from segcore.images.folders import list_images, natural_order
from segcore.images.pixels import Samples, is_16_bit_grey, rgb_pixels
from segcore.runtime.files import short_name, user_path
from segcore.video_files import Video

ImageLike = str | os.PathLike[str] | Image.Image | np.ndarray | Tensor
Source = ImageLike | Iterable[ImageLike]

MAX_DOWNLOAD = 1 << 30  # bytes of an image behind an address


@dataclass(frozen=True)
class Input:
    """An image that is not read yet.

    Attributes:
        name: path or address; "image_000000" and so on of images without one.
        read: returns its pixels, (H, W, 3) uint8, RGB; raises a UserError.
    """

    name: str
    read: Callable[[], np.ndarray]


def is_single(source: Source) -> bool:
    """Whether ``source`` is one image; a folder, a pattern and any other iterable are several."""
    if not isinstance(source, str | os.PathLike):
        return isinstance(source, Image.Image | np.ndarray | Tensor)
    if is_address(source):
        return True
    path = user_path(source)
    return not path.is_dir() and (path.is_file() or not glob.has_magic(str(path)))


def open_inputs(source: Source) -> Iterator[Input]:
    """Yield the images of ``source``.

    Args:
        source: a path, an address (``s3://bucket/a.jpg``, read by fsspec), a folder (the images
            directly inside), a pattern such as ``photos/*.jpg``; a PIL image; an array (H, W, 3)
            uint8, RGB; a tensor (3, H, W), uint8 or floats from 0 to 1, RGB; or an iterable of
            these.

    Raises:
        UserError: a folder or pattern holds no image, or something is none of these.
    """
    numbers = itertools.count()
    sources: Any = [source] if _is_leaf(source) else source
    for each in sources:
        if not _is_leaf(each):
            raise UserError(
                f"an image is a path, a PIL image, an array or a tensor, not a "
                f"{type(each).__name__}"
            )
        yield from _open(each, numbers)


def _is_leaf(source: object) -> bool:
    return isinstance(source, str | os.PathLike | Image.Image | np.ndarray | Tensor)


def _open(source: ImageLike, numbers: Iterator[int]) -> Iterator[Input]:
    if isinstance(source, str | os.PathLike):
        if is_address(source):
            address = os.fspath(source)
            yield Input(address, partial(read_address, address))
        elif is_single(source):
            path = user_path(source)
            yield Input(str(path), partial(read_image, path))
        else:
            for path in find_images([os.fspath(source)]):
                yield Input(str(path), partial(read_image, path))
        return
    name = f"image_{next(numbers):06d}"
    if isinstance(source, Image.Image):
        name = str(getattr(source, "filename", "") or name)
        yield Input(name, partial(from_pil, source, name))
    elif isinstance(source, Tensor):
        yield Input(name, partial(from_tensor, source, name))
    else:
        yield Input(name, partial(from_array, source, name))


def find_images(inputs: Sequence[str]) -> list[Path]:
    """Files, folders (every image directly inside) and glob patterns, as one list of files.

    Args:
        inputs: what a user typed; a file may occur several times and is listed once.

    Raises:
        UserError: nothing is there under one of the names, or it may not be read.
    """
    found: dict[Path, None] = {}
    for name in inputs:
        try:
            images = _named(name)
        except OSError as error:
            raise UserError(
                f"{printable(name, 80)} cannot be read ({error.strerror}): give an image, a "
                "folder that you may read or a pattern"
            ) from error
        if not images:
            is_dir = user_path(name).is_dir()
            kind = "is a folder without images" if is_dir else "is no file, folder or pattern"
            raise UserError(
                f"{printable(name)} {kind} that can be read here: give an image, a folder with "
                "images or a pattern such as 'photos/*.jpg'"
            )
        found.update(dict.fromkeys(images))
    return list(found)


def _named(name: str) -> list[Path]:
    """The images under one name; OSError where it is too long or may not be read."""
    path = user_path(name)
    if path.is_dir():
        return list_images(path)
    if path.exists():
        return [path]
    matches = glob.glob(str(path), recursive=True)  # noqa: PTH207  takes absolute patterns too
    return sorted((path for path in map(Path, matches) if path.is_file()), key=natural_order)


def name_outputs(images: Sequence[Path]) -> dict[Path, str]:
    """A distinct base name for the results of each image: its stem, numbered where two agree and
    cut where there would be no room for an ending."""
    names, taken = {}, set()
    for image in images:
        stem = short_name(image.stem)
        numbered = (f"{stem}-{number}" for number in itertools.count(2))
        name = next(n for n in itertools.chain([stem], numbered) if n not in taken)
        taken.add(name)
        names[image] = name
    return names


class InputFrames(Video):
    """A video of images in memory or of files, in their order."""

    def __init__(self, source: Iterable[ImageLike]) -> None:
        """
        Args:
            source: of images; an iterator can be read once.
        """
        self.path, self._source = Path("video"), source

    def _read(self) -> Iterator[np.ndarray]:
        for each in open_inputs(self._source):
            yield each.read()


# ---- pixels of one image ---------------------------------------------------------------------


def from_array(pixels: np.ndarray, name: str = "the image") -> np.ndarray:
    """Check an array (H, W, 3) uint8, RGB.

    Raises:
        UserError: it has another shape or type.
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise UserError(
            f"{name} is an array of shape {pixels.shape}: an image is (height, width, 3), RGB; "
            "several images are a list"
        )
    if pixels.dtype != np.uint8:
        raise UserError(
            f"{name} is an array of {pixels.dtype}: give uint8, RGB from 0 to 255 (for floats from "
            "0 to 1: (255 * image).round().astype('uint8'))"
        )
    _check_size(pixels.shape[0], pixels.shape[1], name)
    return np.ascontiguousarray(pixels)


def from_tensor(pixels: Tensor, name: str = "the image") -> np.ndarray:
    """Return the image of a tensor (3, H, W), RGB, on any device: uint8, or floats from 0 to 1.

    Raises:
        UserError: it has another shape, type or range.
    """
    if pixels.ndim != 3 or pixels.shape[0] != 3 or not pixels.numel():
        raise UserError(
            f"{name} is a tensor of shape {tuple(pixels.shape)}: an image is (3, height, width), "
            "RGB; several images are a list"
        )
    pixels = pixels.detach()
    if pixels.is_floating_point():
        if not bool(((pixels >= 0) & (pixels <= 1)).all()):
            raise UserError(
                f"{name} is a tensor of floats with values outside of 0 to 1: give RGB from 0 to "
                "1, or uint8 from 0 to 255"
            )
        pixels = (pixels.float() * 255).round().byte()
    return from_array(pixels.permute(1, 2, 0).cpu().numpy(), name)


def from_pil(image: Image.Image, name: str = "the image") -> np.ndarray:
    """Return the pixels of a PIL image of any mode as :func:`segcore.images.read_image` does:
    upright, transparency over white, 16 bits scaled.

    Raises:
        UserError: it cannot be decoded, or holds floats.
    """
    _check_size(image.height, image.width, name)
    try:
        image.load()
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        orientation = orientation if orientation in range(1, 9) else 1
        samples = Samples(16, 16) if is_16_bit_grey(image.mode) else Samples()
        return rgb_pixels(image, samples, orientation, name)
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{printable(name)} cannot be decoded: {printable(error)}") from error


def _check_size(height: int, width: int, name: str) -> None:
    if height * width > MAX_PIXELS:
        raise UserError(
            f"{printable(name)} has {width} x {height} pixels, more than the limit of "
            f"{MAX_PIXELS / 1e6:g} megapixels: make it smaller"
        )


def is_address(source: str | os.PathLike[str]) -> bool:
    """Whether a text is an address with a protocol, such as ``s3://bucket/photo.jpg``."""
    return "://" in os.fspath(source)


def read_address(address: str) -> np.ndarray:
    """Read an image behind an address of any protocol that fsspec knows.

    Raises:
        UserError: fsspec or its part for the protocol is not installed, or nothing can be read.
    """
    name = printable(address)
    try:
        import fsspec
    except ImportError as error:
        raise UserError(f"{name}: addresses need fsspec: pip install fsspec") from error
    with address_errors(name), fsspec.open(address, "rb") as file:
        content = file.read(MAX_DOWNLOAD + 1)
    check_download(len(content), name)
    return read_content(content, address)


@contextmanager
def address_errors(name: str, verb: str = "read") -> Iterator[None]:
    """Raise a UserError for any error inside the block: each protocol's library has its own.

    Args:
        name: of what is behind the address, for the message.
        verb: what cannot be done to it, "read" or "listed".
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{name} cannot be {verb} ({type(error).__name__}: {printable(error)}): see that it is "
            "right and that fsspec's package for its protocol is installed"
        ) from error


def check_download(size: int, name: str) -> None:
    """Raise UserError where an image file has more than ``MAX_DOWNLOAD`` bytes."""
    if size > MAX_DOWNLOAD:
        raise UserError(f"{name} has more than {MAX_DOWNLOAD >> 20} MiB: it is no image")


def read_content(content: bytes, name: str, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Return the pixels of an image file that is in memory, as :func:`segcore.images.read_image`.

    Args:
        content: of the file, in any of the formats of files.
        name: for messages.
        max_pixels: larger images are refused before they are decoded.

    Raises:
        UserError: it is no image, damaged or too large.
    """
    suffix = PurePosixPath(name.partition("?")[0]).suffix
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"image{suffix if suffix[1:].isalnum() and len(suffix) < 10 else ''}"
        path.write_bytes(content)
        try:
            return read_image(path, max_pixels=max_pixels)
        except UserError as error:
            raise UserError(str(error).replace(str(path), printable(name))) from error
