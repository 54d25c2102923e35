"""Seeded damage to small files of every format: an image of a bounded size, or one UserError."""

import io
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segcore.errors import UserError
from segcore.images import HAS_AVIF, read_header, read_image, read_labels

MAX_PIXELS = 100_000
TRIALS = 120
# How each small file is saved: mode, format, options of Pillow.
FILES = {
    "png": ("RGB", "PNG", {}),
    "palette png": ("P", "PNG", {"transparency": 1}),
    "1-bit png": ("1", "PNG", {}),
    "16-bit png": ("I;16", "PNG", {}),
    "rgba png": ("RGBA", "PNG", {}),
    "jpeg": ("RGB", "JPEG", {}),
    "cmyk jpeg": ("CMYK", "JPEG", {}),
    "tiff": ("RGB", "TIFF", {}),
    "lzw tiff": ("RGB", "TIFF", {"compression": "tiff_lzw"}),
    "deflate tiff": ("I;16", "TIFF", {"compression": "tiff_deflate"}),
    "packbits tiff": ("L", "TIFF", {"compression": "packbits"}),
    "jpeg tiff": ("RGB", "TIFF", {"compression": "jpeg"}),
    "fax tiff": ("1", "TIFF", {"compression": "group4"}),
    "rgba tiff": ("RGBA", "TIFF", {}),
    "bmp": ("RGB", "BMP", {}),
    "palette bmp": ("P", "BMP", {}),
    "gif": ("P", "GIF", {}),
    "ppm": ("RGB", "PPM", {}),
    "pgm": ("L", "PPM", {}),
    "webp": ("RGBA", "WEBP", {"lossless": True}),
    "lossy webp": ("RGB", "WEBP", {}),
    "jpeg 2000": ("RGB", "JPEG2000", {}),
}
if HAS_AVIF:
    FILES["avif"] = ("RGB", "AVIF", {})


def small_file(kind: str) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)
    pixels[:12] = pixels[0, 0]
    mode, format, options = FILES[kind]
    image = Image.fromarray(pixels)
    if mode == "I;16":
        image = Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 200)
    elif mode != "RGB":
        image = image.convert(mode)
    image.save(buffer := io.BytesIO(), format, **options)
    return buffer.getvalue()


def check(path: Path) -> bool:
    """Whether a file is read; whatever else happens to it is a UserError of one line."""
    read = False
    for function in (read_image, read_labels, read_header):
        try:
            result = function(path, max_pixels=MAX_PIXELS)
        except UserError as error:
            assert str(error).isprintable() and str(path) in str(error)
            continue
        if function is not read_header:
            assert 0 < result.shape[0] * result.shape[1] <= MAX_PIXELS
        read = read or function is read_image
    return read


@pytest.mark.filterwarnings("ignore")  # Pillow's, of damaged files
@pytest.mark.parametrize("kind", FILES)
def test_damaged_files(tmp_path: Path, kind: str) -> None:
    content, path = small_file(kind), tmp_path / "damaged"
    path.write_bytes(content)
    assert check(path)
    chance = random.Random(kind)
    for _ in range(TRIALS):
        damaged = bytearray(content)
        for _ in range(chance.choice((1, 1, 2, 5))):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        path.write_bytes(damaged)
        check(path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", FILES)
def test_cut_files(tmp_path: Path, kind: str) -> None:
    """A file without its last third is read as no image, least of all as a black one."""
    content, path = small_file(kind), tmp_path / "cut"
    chance = random.Random(kind)
    for _ in range(TRIALS // 2):
        path.write_bytes(content[: chance.randrange(len(content) * 2 // 3)])
        if check(path):
            assert kind == "fax tiff"  # what its codec misses it takes for white
