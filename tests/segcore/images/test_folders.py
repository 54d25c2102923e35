"""Which files of a folder are images, and in which order they come."""

from pathlib import Path

import pytest

from segcore.images.folders import image_suffixes, is_hidden, list_images, natural_order


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def names(folder: Path, **options) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in list_images(folder, **options)]


def test_every_format_that_is_read_or_refused_by_name() -> None:
    documented = "jpg jpeg jpe jfif png apng webp tif tiff bmp gif ppm pgm pbm pnm jp2 j2k"
    assert {f".{suffix}" for suffix in documented.split()} <= image_suffixes()
    assert {".avif", ".heic", ".heif", ".jxl"} <= image_suffixes()
    assert not {".pdf", ".eps", ".txt", ".json", ".mp4"} & image_suffixes()


def test_numbers_count_as_numbers(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{number}.jpg" for number in range(1, 13)))
    assert names(tmp_path) == [f"{number}.jpg" for number in range(1, 13)]


@pytest.mark.parametrize(
    "ordered",
    [
        ["a/2/1.png", "a/10/1.png", "b/1.png"],
        ["1.png", "1 (2).png", "1 (10).png", "2.png"],
        ["shot 9 take 10.png", "shot 10 take 9.png"],
        ["-1.png", "x.png", "x1.png", "x1a.png"],
        ["01.png", "1.png", "2.png"],
        ["x3.png", "x²2.png", "x²10.png"],  # int() does not know such a digit
    ],
)
def test_natural_order(ordered: list[str]) -> None:
    assert sorted(ordered, key=natural_order) == ordered


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "._a.png", ".b.png", ".cache/c.png", "d/.e.png", "d/f.PNG", "g.txt")
    (tmp_path / "folder.png").mkdir()
    assert names(tmp_path) == ["a.png"]
    assert names(tmp_path, below=True) == ["a.png", "d/f.PNG"]
    assert is_hidden(".cache/c.png") and not is_hidden("../c.png")


def test_a_hidden_folder_that_is_asked_for(tmp_path: Path) -> None:
    touch(tmp_path, ".cache/c.png")
    assert names(tmp_path / ".cache") == ["c.png"]


def test_a_suffix(tmp_path: Path) -> None:
    touch(tmp_path, "2_rgb.jpg", "10_rgb.jpg", "2_depth.png", "sub/1_rgb.jpg")
    assert names(tmp_path, suffix="_rgb.jpg") == ["2_rgb.jpg", "10_rgb.jpg"]
    assert names(tmp_path, suffix="_rgb.jpg", below=True)[-1] == "sub/1_rgb.jpg"


@pytest.mark.parametrize("below", [False, True])
def test_no_such_folder(tmp_path: Path, below: bool) -> None:
    with pytest.raises(FileNotFoundError):
        list_images(tmp_path / "absent", below=below)
