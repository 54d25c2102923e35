"""Read untrusted images and label maps.

The size in the header is checked before anything is decoded, only raster formats are opened, and
any error becomes one error message that names the file.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageFile, TiffImagePlugin, UnidentifiedImageError, features

from segcore.errors import UserError, printable
from segcore.images.pixels import Samples, is_16_bit_grey, rgb_pixels, stored_integers

from . import jpeg2000, netpbm, png, tiff

LOSSLESS = ("PNG", "TIFF", "BMP", "GIF", "PPM")
HAS_AVIF = "avif" in features.modules and features.check("avif")  # in Pillow from 11.3 on
FORMATS = (*LOSSLESS, "JPEG", "WEBP", "JPEG2000", *(["AVIF"] if HAS_AVIF else []))
MAX_PIXELS = 256_000_000
MAX_SIDE = 1_000_000  # decoders take memory for each row, too
_LIMIT_LOCK = threading.Lock()

# Formats that are not supported: offset, magic bytes, and what to do.
CONVERT = "convert it to PNG, photographs also to JPEG"
ODD_TIFF = "damaged, or a TIFF of a kind that is not read: convert it to 8-bit RGB or grey"
UNREAD = (
    (4, b"ftypavi", f"AVIF, which is not a lossless format, and needs pillow>=11.3: {CONVERT}"),
    (4, b"ftyphei", f"HEIC: {CONVERT}"),
    (4, b"ftyphev", f"HEIC: {CONVERT}"),
    (4, b"ftypmif1", f"HEIC: {CONVERT}"),
    (4, b"ftypmsf1", f"HEIC: {CONVERT}"),
    (0, b"\0\0\0\x0cJXL ", f"JPEG XL: {CONVERT}"),
    (0, b"\xff\x0a", f"JPEG XL: {CONVERT}"),
    (0, b"8BPS", f"a Photoshop document: {CONVERT}"),
    (0, b"II*\0", ODD_TIFF),
    (0, b"MM\0*", ODD_TIFF),
)


@dataclass(frozen=True)
class Header:
    """The header of an image file.

    Attributes:
        width, height: of the pixels as stored, before they are turned upright.
        format: one of ``FORMATS``, or Pillow's name of a variant (``"MPO"``).
        mode: Pillow's pixel mode, such as ``"RGB"``, ``"P"`` or ``"I;16"``.
        orientation: that of EXIF, 1 (upright) to 8; from 5 on width and height are swapped.
    """

    width: int
    height: int
    format: str
    mode: str
    orientation: int

    @property
    def lossy(self) -> bool:
        """Whether the format may change a stored value."""
        return self.format not in LOSSLESS

    @property
    def is_label_map(self) -> bool:
        """Whether a pixel is one integer (of a palette: the index)."""
        return _holds_integers(self.mode)


@dataclass
class Opened:
    """An image that is not decoded yet.

    Attributes:
        image: Pillow's; it decodes in the order of the file.
        samples: how it stores them.
        orientation: that of EXIF, 1 to 8.
        layout: of a PNG file.
    """

    path: Path
    image: Image.Image
    samples: Samples
    orientation: int
    layout: png.Layout | None = None

    def decode(self) -> Image.Image:
        """Return the first image, in the order of the file.

        Raises:
            UserError: pixels are missing; other errors are those of Pillow's decoders.
        """
        image = self.image
        if self.layout is not None:
            png.check_before_decoding(self.path, self.layout)
        if image.format == "TIFF":
            tiff.reserve(image)
        if image.tile and image.tile[0][0] == "ppm":
            return netpbm.decode(image)
        image.load()
        if self.layout is not None and self.layout.may_be_truncated(image):
            png.check_all_pixels(self.path, self.layout)
        return image


def read_header(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> Header:
    """Read the header of an image or label map; its pixels may still turn out to be damaged.

    Raises:
        UserError: as :func:`read_image`.
    """
    with _opened(path, FORMATS, max_pixels) as opened:
        image = opened.image
        return Header(image.width, image.height, image.format, image.mode, opened.orientation)


def read_image(
    path: str | Path, format: str = "RGB", *, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """Read an image as image viewers show it, with 8 bits per channel.

    The EXIF orientation is applied, transparency is composited over white (an image that is
    transparent everywhere is read as opaque), grey and CMYK become RGB, 16 bits are scaled
    (65535 -> 255; if the file says that fewer bits are significant: their largest value -> 255).
    Bands of a TIFF beyond colour are left out. Of several frames or pages the first one is read.

    Args:
        path: a file in one of ``FORMATS``.
        format: order of the channels, ``"RGB"`` or ``"BGR"``.
        max_pixels: larger images are refused before they are decoded.

    Returns:
        (H, W, 3) uint8, contiguous and writable.

    Raises:
        UserError: the file is missing, not an image, damaged or too large.
    """
    if format not in ("RGB", "BGR"):
        raise UserError(f"INPUT.FORMAT is {format!r}: use 'RGB' or 'BGR'")
    with _opened(path, FORMATS, max_pixels) as opened:
        pixels = rgb_pixels(opened.decode(), opened.samples, opened.orientation, path)
    return pixels if format == "RGB" else np.ascontiguousarray(pixels[:, :, ::-1])


def read_stored_colours(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read the colours that a file stores, without EXIF orientation and transparency.

    Use it for label maps whose classes are colours, and for images whose label maps follow the
    stored pixels.

    Returns:
        (H, W, 3) uint8, RGB, contiguous and writable.

    Raises:
        UserError: as :func:`read_image`.
    """
    with _opened(path, FORMATS, max_pixels) as opened:
        samples = opened.samples._replace(opaque=True)
        return rgb_pixels(opened.decode(), samples, orientation=1, path=path)


def read_labels(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read a label map: the stored integers, palette indices and not the palette's colours.

    Formats that lose information are refused: a label that changed by one is another class.

    Returns:
        (H, W) integers: uint8, uint16 or int32, depending on the stored values.

    Raises:
        UserError: as :func:`read_image`, and for images that do not hold one integer a pixel.
    """
    with _opened(path, LOSSLESS, max_pixels) as opened:
        if not _holds_integers(opened.image.mode):
            raise UserError(
                f"{path} is an image of mode {opened.image.mode}, not a label map: store one "
                "integer a pixel (8-bit, 16-bit or palette PNG or TIFF)"
            )
        if opened.samples.zero_is_white:
            raise UserError(
                f"{path} stores white as 0, so that its numbers are ambiguous: store the label map "
                "as PNG"
            )
        return stored_integers(opened.decode(), opened.samples, opened.orientation)


def from_first_label(labels: np.ndarray, ignore_label: int, first_label: int) -> np.ndarray:
    """Return class ids (H, W); ``first_label`` is class 0, smaller values are no class."""
    if first_label == 0:
        return labels
    return np.where(labels < first_label, ignore_label, labels.astype(np.int32) - first_label)


def check_labels(labels: np.ndarray, num_classes: int, ignore_label: int, path: str | Path) -> None:
    """Refuse labels (H, W) with a value that is no class id and not ``ignore_label``.

    Raises:
        UserError: names the file and the value.
    """
    wrong = ((labels < 0) | (labels >= num_classes)) & (labels != ignore_label)
    if wrong.any():
        raise UserError(
            f"the label map {path} holds the value {labels[wrong][0]}, which is neither a class "
            f"(0..{num_classes - 1}) nor the ignore label {ignore_label}: convert it as "
            "datasets/README.md says"
        )


def _holds_integers(mode: str) -> bool:
    return mode in ("1", "L", "P") or is_16_bit_grey(mode)


@contextmanager
def _opened(path: str | Path, formats: Sequence[str], max_pixels: int) -> Iterator[Opened]:
    """Open an image without decoding it; turn any error of the block into a UserError."""
    path = Path(path)
    if not path.is_file():
        raise UserError(
            f"{path} is a folder, not a file" if path.is_dir() else f"no file at {path}"
        )
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise UserError(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is on, which reads damaged files with black "
            "pixels: turn it off"
        )
    try:
        with pillow_settings():
            image = Image.open(path, formats=formats)
        with image:
            _check_size(path, image, max_pixels)
            yield _describe(path, image)
    except UserError:
        raise
    except Exception as error:  # a damaged file makes the decoders raise nearly anything
        raise UserError(_unreadable(path, formats, error)) from error


def _check_size(path: Path, image: Image.Image, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        raise UserError(
            f"{path} has {image.width} x {image.height} pixels, more than the limit of "
            f"{max_pixels / 1e6:g} megapixels: make it smaller"
        )
    if max(image.size) > MAX_SIDE:
        raise UserError(
            f"{path} has {image.width} x {image.height} pixels: a side may have {MAX_SIDE}"
        )


@contextmanager
def pillow_settings() -> Iterator[None]:
    """Disable Pillow's size limit, since the caller has one, and enable libtiff.

    The settings are global: the lock keeps two threads from restoring the wrong ones.
    """
    with _LIMIT_LOCK:
        limit, libtiff = Image.MAX_IMAGE_PIXELS, TiffImagePlugin.READ_LIBTIFF
        Image.MAX_IMAGE_PIXELS, TiffImagePlugin.READ_LIBTIFF = None, True
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS, TiffImagePlugin.READ_LIBTIFF = limit, libtiff


def _describe(path: Path, image: Image.Image) -> Opened:
    """Return an image with the details that Pillow's mode does not give, by format."""
    if image.format == "PNG":
        layout = png.read_layout(path)
        image.info.setdefault("exif", layout.exif)
        samples = Samples(layout.bits, layout.significant_bits)
        return Opened(path, image, samples, image_orientation(image), layout)
    orientation = image_orientation(image)
    samples = Samples()
    if image.format == "TIFF":
        with pillow_settings():
            samples = tiff.prepare(image)
    elif image.format == "PPM":
        # PBM stores black as 1, which Pillow and other programs show as 0.
        samples = Samples(maximum=netpbm.maximum(image), zero_is_white=image.mode == "1")
    elif image.format == "JPEG2000" and image.mode in ("LA", "RGBA"):
        opaque = not jpeg2000.has_opacity(path)
        samples = Samples(left_out=int(opaque), opaque=opaque)
    return Opened(path, image, samples, orientation)


def image_orientation(image: Image.Image) -> int:
    """Return EXIF's orientation, 1 (upright) to 8, without decoding, which Pillow's PNG does."""
    found = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    return found if found in range(1, 9) else 1


def _unreadable(path: Path, formats: Sequence[str], error: Exception) -> str:
    """Return why a file cannot be read, in one line."""
    with path.open("rb") as file:
        start = file.read(16)
    for offset, magic, what in UNREAD:
        if start.startswith(magic, offset) and isinstance(error, UnidentifiedImageError):
            return f"cannot read {path}: it is {what}"
    return (
        f"cannot read {path}: it is damaged, or not of the formats {', '.join(formats)} "
        f"({type(error).__name__}: {printable(error)})"
    )
