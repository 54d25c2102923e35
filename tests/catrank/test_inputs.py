"""Inputs are found as typed; the names of results are distinct."""

import errno
from pathlib import Path

import pytest

from catrank.inputs import find_images, name_outputs
from segcore.errors import UserError


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
