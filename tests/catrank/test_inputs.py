"""Inputs are found as typed; the names of results are distinct."""

import errno
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from catrank.inputs import find_images, from_pil, is_single, name_outputs, open_inputs
from segcore.errors import UserError
from segcore.images import read_image


@pytest.fixture
def album(tmp_path):
    for name in ("b.png", "a.JPG", "notes.txt", "deeper/c.png"):
        path = tmp_path / "album" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "album"


def test_files_folders_and_patterns(album):
    assert find_images([str(album)]) == [album / "a.JPG", album / "b.png"]
    assert find_images([str(album / "*.png")]) == [album / "b.png"]
    assert find_images([str(album / "**/*.png")]) == [
        album / "b.png",
        album / "deeper/c.png",
    ]
    assert find_images([str(album / "b.png"), str(album)]) == [
        album / "b.png",
        album / "a.JPG",
    ]


def test_every_image_format_is_listed(tmp_path):
    names = ["a.jfif", "b.ppm", "c.jp2", "d.pgm", "e.jpe", "f.heic", "g.avif", "9.png", "10.png"]
    for name in [*names, ".hidden.png"]:
        (tmp_path / name).touch()
    found = [path.name for path in find_images([str(tmp_path)])]
    assert found == ["9.png", "10.png", *names[:-2]]


def test_a_home_folder_in_a_quoted_pattern(album, monkeypatch):
    monkeypatch.setenv("HOME", str(album))
    assert find_images(["~/*.png"]) == [album / "b.png"]


def test_a_file_may_be_named_like_a_pattern(tmp_path):
    path = tmp_path / "holiday [1].png"
    path.touch()
    assert find_images([str(path)]) == [path]


@pytest.mark.parametrize("name", ["absent.png", "*.webp", "empty"])
def test_a_name_without_images_is_one_error_message(album, name):
    (album / "empty").mkdir()
    with pytest.raises(UserError, match="that can be read here"):
        find_images([str(album / name)])


@pytest.mark.parametrize("name", ["a" * 5000, "a/" * 3000, "[" * 4000, "locked"])
def test_a_refusal_of_the_system_is_one_error_message(tmp_path, monkeypatch, name):
    def refuse(folder):
        raise PermissionError(errno.EACCES, "Permission denied")

    (tmp_path / "locked").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Path, "iterdir", refuse)  # root may read everything
    with pytest.raises(UserError, match=r"(too long|denied)") as caught:
        find_images([name])
    assert len(str(caught.value)) < 300


def test_result_names_are_distinct():
    images = [Path(p) for p in ("a/x.png", "b/x.png", "x-2.png", "c/x.jpg", "y.png")]
    names = name_outputs(images)
    assert list(names) == images
    assert len(set(names.values())) == len(images)
    assert names[images[0]] == "x" and names[images[-1]] == "y"


def test_long_names_leave_room_for_extensions(tmp_path):
    images = [tmp_path / ("x" * 245 + end + ".png") for end in "abc"]
    names = name_outputs(images)
    assert len({*names.values()}) == 3
    for name in names.values():
        (tmp_path / f"{name}_categories.json").touch()


# ---- images in memory and behind addresses ---------------------------------------------------

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def read(source) -> np.ndarray:
    (image,) = open_inputs(source)
    return image.read()


def test_one_image_in_each_form(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    tensor = torch.from_numpy(PIXELS.transpose(2, 0, 1).copy())
    forms = [PIXELS, Image.fromarray(PIXELS), tensor, tensor / 255, tmp_path / "a.png"]
    for form in [*forms, str(tmp_path / "a.png")]:
        assert is_single(form) and (read(form) == PIXELS).all()
    assert [image.name for image in open_inputs(forms[:2])] == ["image_000000", "image_000001"]


def test_many_images(album):
    assert not any(map(is_single, [album, str(album / "*.png"), [PIXELS], iter([PIXELS])]))
    names = [Path(image.name).name for image in open_inputs([album, album / "deeper/*.png"])]
    assert names == ["a.JPG", "b.png", "c.png"]


@pytest.mark.parametrize(
    ("mode", "pixel", "expected"),
    [
        ("L", 100, (100, 100, 100)),
        ("RGBA", (10, 20, 30, 0), (255, 255, 255)),
        ("I;16", 0x6464, (100, 100, 100)),
        ("1", 1, (255, 255, 255)),
    ],
)
def test_modes_of_pil(mode, pixel, expected):
    image = Image.new(mode, (2, 1), pixel)
    if mode == "RGBA":
        image.putpixel((1, 0), (1, 2, 3, 255))
    assert tuple(from_pil(image)[0, 0]) == expected


def test_a_pil_image_is_upright(tmp_path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.fromarray(PIXELS).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as image:
        assert (read(image) == read_image(tmp_path / "a.png")).all()
    assert read_image(tmp_path / "a.png").shape == (30, 20, 3)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (PIXELS[:, :, 0], r"shape \(20, 30\): an image is \(height, width, 3\)"),
        (PIXELS[None], r"several images are a list"),
        (PIXELS.astype(np.float32), r"array of float32: give uint8"),
        (np.zeros((0, 4, 3), np.uint8), r"shape \(0, 4, 3\)"),
        (torch.zeros(4, 5, 3), r"tensor of shape \(4, 5, 3\)"),
        (torch.full((3, 4, 5), 255.0), r"values outside of 0 to 1"),
        (torch.full((3, 4, 5), torch.nan), r"values outside of 0 to 1"),
        (torch.zeros(3, 4, 5, dtype=torch.int64), r"array of int64"),
        ([3.5], r"not a float"),
        ([[PIXELS]], r"not a list"),
        ("memory://absent.png", r"memory://absent\.png cannot be read"),
        ("nonsense://a.png", r"nonsense://a\.png cannot be read"),
    ],
)
def test_odd_inputs_are_one_error_message(source, message):
    if isinstance(source, str):
        pytest.importorskip("fsspec", reason="it reads addresses: pip install fsspec")
    with pytest.raises(UserError, match=message):
        read(source)


def test_addresses():
    fsspec = pytest.importorskip("fsspec", reason="it reads addresses: pip install fsspec")
    with fsspec.open("memory://folder/a.png", "wb") as file:
        Image.fromarray(PIXELS).save(file, "PNG")
    with fsspec.open("memory://folder/b.png", "wb") as file:
        file.write(b"no image")
    assert is_single("memory://folder/a.png")
    assert (read("memory://folder/a.png") == PIXELS).all()
    with pytest.raises(UserError, match=r"cannot read memory://folder/b\.png"):
        read("memory://folder/b.png")
