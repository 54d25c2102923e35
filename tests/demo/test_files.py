"""Inputs are found as typed; results never replace each other or an earlier run's."""

import errno
import importlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segcore.errors import UserError
from segcore.vocabulary import Vocabulary

WORDS = Vocabulary.from_words(["sky", "sofa, couch"])


@pytest.fixture
def files():
    return importlib.import_module("files")


@pytest.fixture
def album(tmp_path):
    for name in ("b.png", "a.JPG", "notes.txt", "deeper/c.png"):
        path = tmp_path / "album" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "album"


def test_files_folders_and_patterns(files, album):
    assert files.find_pictures([str(album)]) == [album / "a.JPG", album / "b.png"]
    assert files.find_pictures([str(album / "*.png")]) == [album / "b.png"]
    assert files.find_pictures([str(album / "**/*.png")]) == [
        album / "b.png",
        album / "deeper/c.png",
    ]
    assert files.find_pictures([str(album / "b.png"), str(album)]) == [
        album / "b.png",
        album / "a.JPG",
    ]


def test_a_file_may_be_named_like_a_pattern(files, tmp_path):
    path = tmp_path / "holiday [1].png"
    path.touch()
    assert files.find_pictures([str(path)]) == [path]


@pytest.mark.parametrize("name", ["absent.png", "*.webp", "empty"])
def test_nothing_there_is_one_sentence(files, album, name):
    (album / "empty").mkdir()
    with pytest.raises(UserError, match="--input"):
        files.find_pictures([str(album / name)])


@pytest.mark.parametrize("name", ["a" * 5000, "a/" * 3000, "[" * 4000, "locked"])
def test_what_the_system_refuses_is_one_sentence(files, tmp_path, monkeypatch, name):
    def refuse(folder):
        raise PermissionError(errno.EACCES, "Permission denied")

    (tmp_path / "locked").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Path, "iterdir", refuse)  # root may read everything
    with pytest.raises(UserError, match=r"--input .*(too long|denied)") as caught:
        files.find_pictures([name])
    assert len(str(caught.value)) < 300


def test_result_names_are_distinct(files):
    pictures = [Path(p) for p in ("a/x.png", "b/x.png", "x-2.png", "c/x.jpg", "y.png")]
    names = files.name_outputs(pictures)
    assert list(names) == pictures
    assert len(set(names.values())) == len(pictures)
    assert names[pictures[0]] == "x" and names[pictures[-1]] == "y"


def test_results_are_written_and_read_back(files, tmp_path):
    folder = files.ResultFolder(tmp_path / "new" / "out", WORDS)
    folder.prepare(["cat"])
    labels = np.zeros((20, 30), dtype=np.int64)
    labels[:, 15:] = 1
    folder.write("cat", np.zeros((20, 30, 3), dtype=np.uint8), labels, alpha=0.5)
    with Image.open(folder.path("cat", "labels")) as image:
        assert image.mode == "I;16"
        assert (np.asarray(image) == labels).all()
    with Image.open(folder.path("cat", "overlay")) as image:
        assert image.size == (30, 20)
    back = Vocabulary.load(folder.folder / "vocabulary.json")
    assert (back.names, back.colors, back.hash) == (WORDS.names, WORDS.colors, WORDS.hash)


def test_an_earlier_run_is_safe(files, tmp_path):
    folder = files.ResultFolder(tmp_path, WORDS)
    folder.prepare(["cat"])
    folder.prepare(["cat"])  # nothing but the same vocabulary is there
    folder.path("cat", "labels").write_text("precious")
    with pytest.raises(UserError, match=r"cat_labels\.png is there already"):
        folder.prepare(["dog", "cat"])
    with pytest.raises(UserError, match=r"vocabulary\.json is there already"):
        files.ResultFolder(tmp_path, Vocabulary.from_words(["sea"])).prepare(["dog"])
    assert folder.path("cat", "labels").read_text() == "precious"
    files.ResultFolder(tmp_path, WORDS, overwrite=True).prepare(["cat"])


def test_a_folder_that_cannot_be_made_is_one_sentence(files, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write .*file"):
        files.ResultFolder(tmp_path / "file" / "out", WORDS).prepare(["cat"])


def test_many_classes_fit_the_label_map(files, tmp_path):
    words = Vocabulary.from_words([f"word {i}" for i in range(400)])
    folder = files.ResultFolder(tmp_path, words)
    folder.prepare(["cat"])
    labels = np.arange(400).reshape(20, 20)
    folder.write("cat", np.zeros((20, 20, 3), dtype=np.uint8), labels, alpha=0.5)
    with Image.open(folder.path("cat", "labels")) as image:
        assert (np.asarray(image) == labels).all()
    assert len(json.loads((tmp_path / "vocabulary.json").read_text())["classes"]) == 400
