"""Reading pictures and label maps that somebody else made.

The size in the header is looked at before anything is decoded, only raster formats are opened, and
whatever is wrong with a file becomes one sentence that names it.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from segcore.errors import UserError

LOSSLESS = ("PNG", "TIFF", "BMP", "GIF", "PPM")
FORMATS = (*LOSSLESS, "JPEG", "WEBP", "JPEG2000")
MAX_PIXELS = 256_000_000
_LIMIT_LOCK = threading.Lock()


@dataclass(frozen=True)
class Header:
    """What a picture's file says of itself.

    Attributes:
        width, height: of the pixels as stored, before they are turned upright.
        format: one of ``FORMATS``, or a variant of one that Pillow names itself (``"MPO"``).
        mode: Pillow's name of what a pixel holds, such as ``"RGB"``, ``"P"`` or ``"I;16"``.
        orientation: that of EXIF, 1 (upright) to 8; from 5 on width and height change places.
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


def read_header(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> Header:
    """The header of a picture or label map; its pixels may still turn out to be damaged.

    Raises:
        UserError: as :func:`read_image`.
    """
    with _opened(path, FORMATS, max_pixels) as image:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        known = orientation if orientation in range(1, 9) else 1
        return Header(image.width, image.height, image.format, image.mode, known)


def read_image(
    path: str | Path, format: str = "RGB", *, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """The picture as people see it in a viewer, in 8 bits a channel.

    The EXIF orientation is applied, transparency is laid over white, grey and CMYK become RGB,
    16-bit grey is scaled (65535 -> 255); of several frames the first one is read.

    Args:
        path: a file in one of ``FORMATS``.
        format: order of the channels, ``"RGB"`` or ``"BGR"``.
        max_pixels: larger pictures are refused before they are decoded.

    Returns:
        (H, W, 3) uint8, contiguous and writable.

    Raises:
        UserError: the file is missing, not a picture, damaged or too large.
    """
    if format not in ("RGB", "BGR"):
        raise UserError(f"INPUT.FORMAT is {format!r}: use 'RGB' or 'BGR'")
    pixels = np.array(_to_rgb(_decode(path, FORMATS, max_pixels), path))
    return pixels if format == "RGB" else np.ascontiguousarray(pixels[:, :, ::-1])


def read_labels(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """A label map: the stored integers, palette indices and not the palette's colours.

    Formats that lose information are refused: a label that changed by one is another class.

    Returns:
        (H, W) integers: uint8, uint16 or int32, whatever holds the stored values.

    Raises:
        UserError: as :func:`read_image`, and for pictures that do not hold one integer a pixel.
    """
    image = _decode(path, LOSSLESS, max_pixels)
    if not _holds_integers(image.mode):
        raise UserError(
            f"{path} is a picture of mode {image.mode}, not a label map: store one integer a pixel "
            "(8-bit, 16-bit or palette PNG or TIFF)"
        )
    labels = np.array(image)
    native = np.uint8 if image.mode == "1" else labels.dtype.newbyteorder("=")
    return labels.astype(native, copy=False)


def read_class_ids(
    path: str | Path, num_classes: int | None, ignore_label: int | None, first_label: int = 0
) -> np.ndarray:
    """The classes of a label map.

    Args:
        path: the label map.
        num_classes: C; None refuses no class.
        ignore_label: of pixels without a class.
        first_label: what class 0 is stored as; smaller values are pixels without a class.

    Returns:
        (H, W) integers, 0 ... C - 1 or ``ignore_label``.

    Raises:
        UserError: as :func:`read_labels` and :func:`check_labels`.
    """
    labels = from_first_label(read_labels(path), ignore_label, first_label)
    if num_classes is not None:
        check_labels(labels, num_classes, ignore_label, path)
    return labels


def from_first_label(labels: np.ndarray, ignore_label: int, first_label: int) -> np.ndarray:
    """Class ids (H, W), where class 0 is stored as ``first_label`` and smaller values are none."""
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
    return mode in ("1", "L", "P", "I") or mode.startswith("I;16")


def _decode(path: str | Path, formats: Sequence[str], max_pixels: int) -> Image.Image:
    """A decoded, upright picture in its own mode."""
    with _opened(path, formats, max_pixels) as image:
        image.load()
        return ImageOps.exif_transpose(image)


@contextmanager
def _opened(path: str | Path, formats: Sequence[str], max_pixels: int) -> Iterator[Image.Image]:
    """A picture that is not decoded yet; whatever goes wrong with it is a UserError."""
    path = Path(path)
    if not path.is_file():
        raise UserError(
            f"{path} is a folder, not a file" if path.is_dir() else f"no file at {path}"
        )
    try:
        with _open_header(path, formats) as image:
            if image.width * image.height > max_pixels:
                raise UserError(
                    f"{path} has {image.width} x {image.height} pixels, more than the limit of "
                    f"{max_pixels / 1e6:g} megapixels: make it smaller"
                )
            yield image
    except UserError:
        raise
    except Exception as error:  # a damaged file makes the decoders raise nearly anything
        raise UserError(
            f"cannot read {path}: it is damaged, or not of the formats {', '.join(formats)} "
            f"({type(error).__name__}: {error})"
        ) from error


def _open_header(path: Path, formats: Sequence[str]) -> Image.Image:
    """Read the header only. Pillow's own size limit is put aside for this one call, because the
    caller has a limit of its own; the lock keeps two threads from restoring the wrong one."""
    with _LIMIT_LOCK:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(path, formats=formats)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _to_rgb(image: Image.Image, path: str | Path) -> Image.Image:
    if image.mode == "F":
        raise UserError(f"{path} holds floating-point pixels: store the picture with 8 or 16 bits")
    if image.mode == "I" or image.mode.startswith("I;16"):
        return _scale_16_bit(image, path).convert("RGB")
    if image.has_transparency_data:
        colours = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), colours).convert("RGB")
    return image.convert("RGB")


def _scale_16_bit(image: Image.Image, path: str | Path) -> Image.Image:
    values = np.array(image)
    if values.min() < 0 or values.max() > 65535:
        raise UserError(f"{path} holds values outside 0..65535: store it with 8 or 16 bits")
    return Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))
