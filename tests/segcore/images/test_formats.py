"""Images of the kinds that Pillow reads as something else, and label maps as they are stored."""

import io
import logging
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from segcore.errors import UserError
from segcore.images import read_header, read_image, read_labels

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8)


def chunk(name: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def png(path: Path, size: tuple[int, int], bits: int, colour: int, raw: bytes, *more) -> Path:
    """A PNG file with these inflated pixels, and more chunks before them."""
    header = struct.pack(">IIBBBBB", *size, bits, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), *more, (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks))
    return path


def tiff(path: Path, pixels: np.ndarray, **options) -> Path:
    tifffile = pytest.importorskip("tifffile", reason="comes with scikit-image")
    tifffile.imwrite(path, pixels, **options)
    return path


class TestTiff:
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    @pytest.mark.parametrize("planar", ["contig", "separate"])
    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize("compression", [None, "zlib"])
    @pytest.mark.parametrize("extra", [(), (0,), (1,), (2,)])
    @pytest.mark.parametrize("tile", [None, (16, 16)])
    def test_every_layout(
        self, tmp_path: Path, dtype, planar, order, compression, extra, tile
    ) -> None:
        """The colours as stored, whatever a fourth band is marked as."""
        bands = RNG.integers(0, 256, (40, 50, 3 + len(extra))).astype(dtype)
        bands *= 1 if dtype == np.uint8 else 257
        path = tiff(
            tmp_path / "a.tif",
            bands if planar == "contig" else np.moveaxis(bands, 2, 0),
            photometric="rgb",
            planarconfig=planar,
            byteorder=order,
            compression=compression,
            extrasamples=extra or None,
            **({"tile": tile} if tile else {"rowsperstrip": 7}),
        )
        colours = bands[:, :, :3] if dtype == np.uint8 else bands[:, :, :3] // 257
        np.testing.assert_array_equal(read_image(path), colours)

    def test_a_band_that_is_left_out_is_remarked(self, tmp_path: Path, caplog) -> None:
        bands = np.dstack([COLOURS, COLOURS[:, :, 0]])
        read_image(tiff(tmp_path / "a.tif", bands, photometric="rgb", extrasamples=(2,)))
        assert "a.tif: 1 band(s) beyond colour are left out" in caplog.text

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("compression", [None, "tiff_lzw"])
    def test_the_orientation_is_applied_once(
        self, tmp_path: Path, orientation: int, compression
    ) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        for name in ("a.tif", "a.png"):
            options = {"compression": compression} if name == "a.tif" else {}
            Image.fromarray(COLOURS).save(tmp_path / name, exif=exif, **options)
        one, other = read_image(tmp_path / "a.tif"), read_image(tmp_path / "a.png")
        np.testing.assert_array_equal(one, other)
        header = read_header(tmp_path / "a.tif")
        assert (header.width, header.height, header.orientation) == (50, 40, orientation)

    @pytest.mark.parametrize("order", ["<", ">"])
    def test_white_that_is_zero(self, tmp_path: Path, order: str) -> None:
        grey = COLOURS[:, :, 0]
        for dtype, scale in ((np.uint8, 1), (np.uint16, 257)):
            path = tiff(
                tmp_path / "a.tif",
                grey.astype(dtype) * scale,
                photometric="miniswhite",
                byteorder=order,
            )
            try:
                np.testing.assert_array_equal(read_image(path)[:, :, 0], 255 - grey)
            except UserError as error:  # Pillow knows some of them only
                assert "a TIFF of a kind that is not read" in str(error)
            with pytest.raises(UserError, match=r"a\.tif"):
                read_labels(path)

    def test_12_bits_that_are_declared(self, tmp_path: Path) -> None:
        grey = COLOURS[:, :, 0]
        stored = ((grey.astype(int) * 4095 + 127) // 255).astype(np.uint16)
        for tag in (281, 341):
            path = tiff(tmp_path / "a.tif", stored, extratags=[(tag, "H", 1, 4095, True)])
            np.testing.assert_array_equal(read_image(path)[:, :, 0], grey)
            np.testing.assert_array_equal(read_labels(path), stored)
        colours = np.dstack([stored] * 3)
        path = tiff(
            tmp_path / "b.tif",
            colours,
            photometric="rgb",
            extratags=[(281, "H", 3, (4095,) * 3, True)],
        )
        with pytest.raises(UserError, match=r"b\.tif stores colours of 12 bits in the lower"):
            read_image(path)

    def test_12_bits_that_are_not(self, tmp_path: Path, caplog) -> None:
        read_image(tiff(tmp_path / "a.tif", np.full((4, 4), 4000, np.uint16)))
        assert "a.tif is nearly black: its 16-bit values go to 4000 of 65535" in caplog.text

    def test_a_stream_that_ends_early(self, tmp_path: Path) -> None:
        """Whole for zlib, but with a few of the pixels."""
        path = tiff(tmp_path / "a.tif", COLOURS, compression="zlib", rowsperstrip=40)
        data = path.read_bytes()
        (count,) = struct.unpack_from("<I", data, data.index(struct.pack("<HHI", 279, 4, 1)) + 8)
        short = zlib.compress(bytes(8)).ljust(count, b"\0")
        path.write_bytes(data.replace(data[-count:], short))
        with pytest.raises(UserError, match=r"cannot read .*a\.tif"):
            read_image(path)

    def test_a_kind_that_is_not_read_is_named(self, tmp_path: Path) -> None:
        path = tiff(tmp_path / "a.tif", np.zeros((5, 6, 7), np.uint16), photometric="minisblack")
        with Image.open(path) as pages:
            assert pages.size == (7, 6)  # pages, of which the first is read
        assert read_image(path).shape == (6, 7, 3)
        many = np.zeros((6, 7, 9), np.uint16)
        path = tiff(tmp_path / "b.tif", many, photometric="minisblack", planarconfig="contig")
        with pytest.raises(UserError, match=r"b\.tif: it is damaged, or a TIFF of a kind"):
            read_image(path)


class TestPng:
    @pytest.mark.parametrize("bits", [1, 2, 4, 8])
    def test_labels_of_few_bits(self, tmp_path: Path, bits: int) -> None:
        stored = RNG.integers(0, 2**bits, (5, 16), dtype=np.uint8)
        packed = np.packbits(np.unpackbits(stored[..., None], axis=2)[:, :, 8 - bits :], axis=None)
        rows = packed.reshape(5, -1)
        raw = b"".join(b"\0" + row.tobytes() for row in rows)
        path = png(tmp_path / "a.png", (16, 5), bits, 0, raw)
        np.testing.assert_array_equal(read_labels(path), stored)
        grey = stored.astype(int) * 255 // (2**bits - 1)
        np.testing.assert_array_equal(read_image(path)[:, :, 0], grey)
        hidden = png(tmp_path / "b.png", (16, 5), bits, 0, raw, (b"tRNS", b"\0\1"))
        seen = np.where(stored == 1, 255, grey)
        np.testing.assert_array_equal(read_image(hidden)[:, :, 0], seen)

    def test_significant_bits(self, tmp_path: Path) -> None:
        """Scaled to 16 bits, as the format wants it, and in the lower ones, as cameras write."""
        for shift, white in ((4, 65535), (0, 4095)):
            stored = np.array([[0, 1000, 4095]]) << shift
            raw = b"\0" + stored.astype(">u2").tobytes()
            path = png(tmp_path / "a.png", (3, 1), 16, 0, raw, (b"sBIT", b"\x0c"))
            wanted = (stored * 255 + white // 2) // white
            np.testing.assert_array_equal(read_image(path)[:, :, 0], wanted)

    def test_16_bit_grey_with_a_transparent_value(self, tmp_path: Path) -> None:
        raw = b"\0" + np.array([0, 257, 65535], dtype=">u2").tobytes()
        path = png(tmp_path / "a.png", (3, 1), 16, 0, raw, (b"tRNS", b"\0\0"))
        assert read_image(path)[0, :, 0].tolist() == [255, 1, 255]

    def test_alpha_that_is_zero_everywhere(self, tmp_path: Path, caplog) -> None:
        bands = np.dstack([COLOURS, np.zeros_like(COLOURS[:, :, 0])])
        Image.fromarray(bands).save(tmp_path / "a.png")
        np.testing.assert_array_equal(read_image(tmp_path / "a.png"), COLOURS)
        assert "a.png is transparent everywhere" in caplog.text

    @pytest.mark.parametrize("colour", [0, 2])
    def test_a_stream_that_ends_early(self, tmp_path: Path, colour: int) -> None:
        """Whole for zlib, but without the last row; the rows before hold something."""
        row = b"\0" + bytes(range(1, 10 * (1 + colour) + 1))
        path = png(tmp_path / "a.png", (10, 4), 8, colour, row * 3)
        with pytest.raises(UserError, match="its data end before all of its 10 x 4 pixels"):
            read_image(path)
        black = b"\0" * len(row)
        assert read_image(png(path, (10, 4), 8, colour, row * 3 + black)).shape == (4, 10, 3)

    @pytest.mark.parametrize("size", [(1, 1), (3, 2), (5, 9), (50, 40)])
    def test_interlaced(self, tmp_path: Path, size: tuple[int, int]) -> None:
        """All of a file of seven passes, and one that lacks its last byte."""
        width, height = size
        steps = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4)]
        steps += [(1, 0, 2, 2), (0, 1, 1, 2)]
        pixels = RNG.integers(1, 256, (height, width), dtype=np.uint8)
        passes = [pixels[top::down, left::right] for left, top, right, down in steps]
        raw = b"".join(b"\0" + row.tobytes() for part in passes if part.size for row in part)
        for content, ok in ((raw, True), (raw[:-1], False)):
            path = png(tmp_path / "a.png", size, 8, 0, content)
            data = path.read_bytes()
            header = data[16:28] + b"\1"
            path.write_bytes(data[:8] + chunk(b"IHDR", header) + data[33:])
            if ok:
                np.testing.assert_array_equal(read_labels(path), pixels)
            else:
                with pytest.raises(UserError, match=r"a\.png"):
                    read_labels(path)

    def test_one_flipped_bit(self, tmp_path: Path) -> None:
        Image.fromarray(COLOURS).save(tmp_path / "a.png", compress_level=0)
        data = bytearray((tmp_path / "a.png").read_bytes())
        data[len(data) // 2] ^= 1
        (tmp_path / "a.png").write_bytes(data)
        with pytest.raises(UserError, match="wrong checksum of b'IDAT'"):
            read_image(tmp_path / "a.png")

    def test_the_first_frame(self, tmp_path: Path) -> None:
        frames = [Image.fromarray(COLOURS), Image.fromarray(255 - COLOURS)]
        for name in ("a.png", "a.webp", "a.tif"):
            options = {"lossless": True} if name == "a.webp" else {}
            frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
            np.testing.assert_array_equal(read_image(tmp_path / name), COLOURS)

    @pytest.mark.parametrize("name", [b"iCCP", b"zTXt"])
    def test_a_bomb_in_a_chunk(self, tmp_path: Path, name: bytes) -> None:
        bomb = b"a\0\0" + zlib.compress(bytes(5_000_000))
        path = png(tmp_path / "a.png", (1, 1), 8, 0, b"\0\7", (name, bomb))
        with pytest.raises(UserError, match=r"(?i)too large"):
            read_image(path)


class TestNetpbm:
    @pytest.mark.parametrize("maximum", [1, 3, 15, 255, 1000, 65535])
    @pytest.mark.parametrize("plain", [True, False])
    def test_labels_as_they_are_stored(self, tmp_path: Path, maximum: int, plain: bool) -> None:
        stored = RNG.integers(0, maximum + 1, (20, 30))
        dtype = ">u2" if maximum > 255 else np.uint8
        text = " ".join(map(str, stored.ravel())).encode()
        content = text if plain else stored.astype(dtype).tobytes()
        path = tmp_path / "a.pgm"
        path.write_bytes(b"P%d 30 20 %d\n" % (2 if plain else 5, maximum) + content)
        np.testing.assert_array_equal(read_labels(path), stored)
        grey = stored * 255 / maximum
        assert np.abs(read_image(path)[:, :, 0] - grey).max() <= 0.51

    def test_colours(self, tmp_path: Path) -> None:
        stored = RNG.integers(0, 1001, (20, 30, 3))
        (tmp_path / "a.ppm").write_bytes(b"P6 30 20 1000\n" + stored.astype(">u2").tobytes())
        assert np.abs(read_image(tmp_path / "a.ppm") - stored * 0.255).max() <= 0.5

    @pytest.mark.parametrize(
        "content", [b"P5 3 1 3\n\0\1", b"P5 3 1 3\n\0\1\7", b"P4 8 1\n\x0f", b"P1 2 1\n0 1"]
    )
    def test_labels_that_are_refused(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "a.pgm").write_bytes(content)
        with pytest.raises(UserError, match=r"a\.pgm"):
            read_labels(tmp_path / "a.pgm")


def test_the_fourth_band_of_jpeg_2000(tmp_path: Path, caplog) -> None:
    """Opacity where the file says so, as Pillow writes it; else left out."""
    bands = np.dstack([COLOURS, np.full((40, 50), 100, np.uint8)])
    Image.fromarray(bands).save(path := tmp_path / "a.jp2")
    white = np.rint(255 + (COLOURS.astype(float) - 255) * 100 / 255)
    assert np.abs(read_image(path) - white).max() <= 2
    path.write_bytes(path.read_bytes().replace(b"cdef", b"free"))
    np.testing.assert_array_equal(read_image(path), COLOURS)
    assert "left out" in caplog.text


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0", "HEIC"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"8BPS\0\1", "Photoshop"),
    ],
)
def test_formats_that_are_not_read_are_named(tmp_path: Path, start: bytes, name: str) -> None:
    (tmp_path / "a.jpg").write_bytes(start + bytes(40))
    with pytest.raises(UserError, match=rf"a\.jpg: it is .*{name}.*convert it"):
        read_image(tmp_path / "a.jpg")


def test_damaged_files_may_not_become_black(tmp_path: Path, monkeypatch) -> None:
    Image.fromarray(COLOURS).save(tmp_path / "a.png")
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(UserError, match="LOAD_TRUNCATED_IMAGES is on"):
        read_image(tmp_path / "a.png")


def test_a_header_takes_no_look_at_the_pixels(tmp_path: Path) -> None:
    """Nor does a label map of a mode that is none."""
    path = png(tmp_path / "a.png", (9000, 9000), 8, 2, b"")
    assert read_header(path).width == 9000
    with pytest.raises(UserError, match="mode RGB, not a label map"):
        read_labels(path)


@pytest.mark.parametrize("size", [(1, 200_000_000), (200_000_000, 1), (16_000, 16_000)])
def test_a_small_file_with_many_pixels_is_refused_at_once(tmp_path: Path, size) -> None:
    path = png(tmp_path / "a.png", size, 8, 2, b"\0" * 4)
    with pytest.raises(UserError, match=r"a side may have|its data end before"):
        read_image(path)


MEASURE = """
import sys
from pathlib import Path
from segcore.images import read_image
def peak(): return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) << 10
read_image(sys.argv[1])
before = peak()
read_image(sys.argv[2])
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's peak of memory")
@pytest.mark.parametrize("kind", ["RGBA", "palette", "turned", "CMYK", "16 bits"])
def test_memory_in_proportion_to_the_pixels(tmp_path: Path, kind: str) -> None:
    side = 2000
    image, options, name = Image.new("RGBA", (side, side), (9, 8, 7, 100)), {}, "a.png"
    if kind == "palette":
        image, options = image.convert("RGB").quantize(4), {"transparency": 0}
    elif kind == "turned":
        options = {"exif": (exif := Image.Exif())}
        exif[0x0112] = 6
    elif kind == "CMYK":
        image, name = image.convert("CMYK"), "a.jpg"
    elif kind == "16 bits":
        image = Image.fromarray(np.full((side, side), 60_000, np.uint16))
    image.save(tmp_path / name, **options)
    image.resize((8, 8), Image.Resampling.NEAREST).save(tmp_path / f"small_{name}", **options)
    command = [sys.executable, "-c", MEASURE, tmp_path / f"small_{name}", tmp_path / name]
    measured = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert int(measured) < 9 * side * side


def test_remarks_are_quiet_about_good_files(tmp_path: Path, caplog) -> None:
    buffer = io.BytesIO()
    Image.fromarray(COLOURS).save(buffer, "PNG")
    (tmp_path / "a.png").write_bytes(buffer.getvalue())
    with caplog.at_level(logging.INFO):
        read_image(tmp_path / "a.png")
    assert not caplog.records
