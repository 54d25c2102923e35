"""Images and label maps of every kind that people have, and of the kinds that break."""

import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segcore.errors import UserError
from segcore.images import (
    check_labels,
    read_header,
    read_image,
    read_labels,
    read_stored_colours,
)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


@pytest.fixture
def save(tmp_path: Path):
    """Write an image and return its path."""

    def write(content: Image.Image | np.ndarray, name: str = "image.png", **options) -> Path:
        image = Image.fromarray(content) if isinstance(content, np.ndarray) else content
        image.save(tmp_path / name, **options)
        return tmp_path / name

    return write


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp", "a.ppm"])
def test_colour(pixels: np.ndarray, save, name: str) -> None:
    image = read_image(save(pixels, name))
    assert image.dtype == np.uint8 and image.flags.writeable and image.flags.c_contiguous
    np.testing.assert_array_equal(image, pixels)
    reversed_channels = read_image(save(pixels, name), "BGR")
    np.testing.assert_array_equal(reversed_channels, pixels[:, :, ::-1])


def test_unknown_channel_order(pixels: np.ndarray, save) -> None:
    with pytest.raises(UserError, match="'RGB' or 'BGR'"):
        read_image(save(pixels), "HSV")


@pytest.mark.parametrize("name", ["a.jpg", "a.webp"])
def test_lossy_colour(save, name: str) -> None:
    smooth = np.full((16, 16, 3), (200, 60, 30), dtype=np.uint8)
    assert np.abs(read_image(save(smooth, name)).astype(int) - smooth).max() <= 4


def test_grey(pixels: np.ndarray, save) -> None:
    grey = pixels[:, :, 0]
    np.testing.assert_array_equal(read_image(save(grey)), np.stack([grey] * 3, axis=2))


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_16_bit_is_scaled(pixels: np.ndarray, save, name: str) -> None:
    grey = pixels[:, :, 0]
    image = read_image(save(grey.astype(np.uint16) * 257, name))
    np.testing.assert_array_equal(image, np.stack([grey] * 3, axis=2))


def test_bits(save) -> None:
    mask = np.eye(8, dtype=bool)
    np.testing.assert_array_equal(read_image(save(mask))[:, :, 0], 255 * mask)
    np.testing.assert_array_equal(read_labels(save(mask)), mask)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_lies_on_white(save, mode: str) -> None:
    image = Image.new(mode, (4, 2), 0)
    image.putpixel((0, 0), (0,) * (len(mode) - 1) + (255,))
    image.putpixel((1, 0), (0,) * (len(mode) - 1) + (127,))
    read = read_image(save(image))
    assert read[0, :3].tolist() == [[0] * 3, [128] * 3, [255] * 3]


def test_palette(save) -> None:
    image = Image.fromarray(np.array([[0, 1], [2, 1]], dtype=np.uint8)).convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    colours = [[[10, 20, 30], [40, 50, 60]], [[70, 80, 90], [40, 50, 60]]]
    assert read_image(save(image)).tolist() == colours
    colours[0][1] = colours[1][1] = [255] * 3
    assert read_image(save(image, transparency=1)).tolist() == colours
    assert read_labels(save(image)).tolist() == [[0, 1], [2, 1]]


def test_cmyk(pixels: np.ndarray, save) -> None:
    cmyk = Image.fromarray(pixels).convert("CMYK")
    np.testing.assert_array_equal(read_image(save(cmyk, "a.tif")), pixels)
    flat = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    assert np.abs(read_image(save(flat, "a.jpg")).astype(int) - (255, 0, 0)).max() <= 4


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (1, lambda a: a),
        (2, np.fliplr),
        (3, lambda a: np.rot90(a, 2)),
        (4, np.flipud),
        (5, lambda a: a.transpose(1, 0, 2)),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: np.rot90(a, 2).transpose(1, 0, 2)),
        (8, np.rot90),
        (99, lambda a: a),
    ],
)
def test_exif_orientation(pixels: np.ndarray, save, orientation: int, turn) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(read_image(save(pixels, exif=exif)), turn(pixels))


@pytest.mark.parametrize("mode", ["RGBA", "P", "I;16"])
def test_stored_colours_are_neither_turned_nor_laid_on_white(save, mode: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = np.zeros((2, 3), dtype=np.uint8)
    stored[0, 0] = 255
    if mode == "RGBA":
        image = Image.fromarray(np.stack([stored] * 4, axis=2))  # transparent where it is black
    elif mode == "P":
        image = Image.fromarray(stored // 255, "L").convert("P")
        image.putpalette([0, 0, 0, 255, 255, 255])
    else:
        image = Image.fromarray(stored.astype(np.uint16) * 257)
    path = save(image, exif=exif, **({} if mode == "RGBA" else {"transparency": 0}))
    np.testing.assert_array_equal(read_stored_colours(path), np.stack([stored] * 3, axis=2))
    assert read_image(path).shape == (3, 2, 3)
    assert read_image(path).min() == 255


def test_damaged_exif_does_not_matter(pixels: np.ndarray, save) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(pixels, "a.jpg", exif=exif)
    data = path.read_bytes()
    start = data.index(b"Exif\0\0") + 6
    path.write_bytes(data[:start] + b"\xff" * 20 + data[start + 20 :])
    assert read_image(path).shape == pixels.shape


@pytest.mark.parametrize(
    ("dtype", "suffix"),
    [
        (np.uint8, "png"),
        (np.uint16, "png"),
        (np.uint8, "tif"),
        (np.uint16, "tif"),
        (np.int32, "tif"),
    ],
)
def test_labels(save, dtype: type, suffix: str) -> None:
    labels = np.array([[0, 1, 200], [2, 255, 3]], dtype=dtype)
    if dtype != np.uint8:
        labels[0, 0] = 65535
    read = read_labels(save(labels, f"a.{suffix}"))
    assert np.can_cast(dtype, read.dtype) and read.dtype.kind in "ui"  # old Pillows widen
    np.testing.assert_array_equal(read, labels)


def test_big_endian_labels_come_in_native_order(save) -> None:
    image = Image.frombytes("I;16B", (2, 1), b"\x00\x01\x01\x00")
    read = read_labels(save(image, "a.tif"))
    assert read.dtype == np.uint16 and read.dtype.isnative
    assert read.tolist() == [[1, 256]]


def test_images_are_no_labels(pixels: np.ndarray, save) -> None:
    with pytest.raises(UserError, match="mode RGB, not a label map"):
        read_labels(save(pixels))
    with pytest.raises(UserError, match="PNG, TIFF"):
        read_labels(save(pixels[:, :, 0], "a.jpg"))


def test_check_labels() -> None:
    labels = np.array([[0, 1], [255, 2]])
    check_labels(labels, 3, 255, "a.png")
    with pytest.raises(UserError, match=r"a\.png holds the value 2"):
        check_labels(labels, 2, 255, "a.png")
    with pytest.raises(UserError, match="holds the value -1"):
        check_labels(labels - 1, 300, 255, "a.png")


def damage(data: bytes, kind: str) -> bytes:
    half = len(data) // 2
    return {
        "empty": b"",
        "text": b"no image at all",
        "truncated": data[:half],
        "header only": data[:40],
        "broken": data[:half] + bytes(b ^ 0x55 for b in data[half : half + 40]) + data[half + 40 :],
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
    }[kind]


@pytest.mark.parametrize(
    "kind", ["empty", "text", "truncated", "header only", "broken", "postscript"]
)
def test_damaged(pixels: np.ndarray, save, kind: str) -> None:
    for read, image in ((read_image, pixels), (read_labels, pixels[:, :, 0])):
        path = save(image)
        path.write_bytes(damage(path.read_bytes(), kind))
        with pytest.raises(UserError, match=r"cannot read .*image\.png"):
            read(path)


def test_truncated_jpeg(pixels: np.ndarray, save) -> None:
    path = save(pixels, "a.jpg")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match="cannot read"):
        read_image(path)


def test_missing_and_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no file at .*none\.png"):
        read_image(tmp_path / "none.png")
    with pytest.raises(UserError, match="is a folder"):
        read_image(tmp_path)


def test_values_without_a_known_range(save) -> None:
    with pytest.raises(UserError, match="floating-point"):
        read_image(save(np.zeros((2, 2), dtype=np.float32), "a.tif"))
    with pytest.raises(UserError, match=r"0\.\.65535"):
        read_image(save(np.full((2, 2), 70000, dtype=np.int32), "a.tif"))


def test_size_is_checked_before_decoding(save) -> None:
    path = save(Image.new("1", (20000, 13000)))
    path.write_bytes(path.read_bytes()[:200])  # nothing to decode is left
    with pytest.raises(UserError, match="20000 x 13000 pixels, more than the limit of 256"):
        read_image(path)
    with pytest.raises(UserError, match=r"limit of 0\.0006"):
        read_image(save(Image.new("L", (30, 30))), max_pixels=600)


def test_100_megapixels(save) -> None:
    path = save(Image.new("L", (10000, 10000), 7))
    limit = Image.MAX_IMAGE_PIXELS
    labels = read_labels(path)
    assert labels.shape == (10000, 10000) and labels[-1, -1] == 7
    assert limit == Image.MAX_IMAGE_PIXELS


def test_threads_leave_pillows_limit_alone(pixels: np.ndarray, save) -> None:
    path, limit = save(pixels), Image.MAX_IMAGE_PIXELS
    threads = [
        threading.Thread(target=lambda: [read_image(path) for _ in range(50)]) for _ in "abcd"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert limit == Image.MAX_IMAGE_PIXELS


def test_header(pixels: np.ndarray, save) -> None:
    header = read_header(save(pixels))
    assert (header.width, header.height, header.format, header.mode) == (30, 20, "PNG", "RGB")
    assert (header.orientation, header.lossy, header.is_label_map) == (1, False, False)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = read_header(save(pixels, "a.jpg", exif=exif))
    assert (turned.width, turned.height, turned.orientation, turned.lossy) == (30, 20, 6, True)
    exif[0x0112] = 77
    assert read_header(save(pixels, "b.jpg", exif=exif)).orientation == 1
    assert read_header(save(pixels[:, :, 0].astype(np.uint16), "a.tif")).is_label_map


def test_header_of_what_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"cannot read .*a\.png"):
        read_header(tmp_path / "a.png")
