"""Paths from people and from files."""

import argparse
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from segcore.errors import UserError, exit_on_user_error, printable
from segcore.runtime.files import (
    check_file_name,
    expand_home,
    join_inside,
    path_argument,
    replace,
    short_name,
    user_path,
    write_text,
)


@pytest.mark.parametrize(
    "name",
    [
        *("a.png", "a/b.png", "..a", "a..b/c", "caf\u00e9.png", "./a"),
        # A narrow space, as in names of screenshots; a wide one; an emoji of two.
        *("at 3.04\u202fPM.png", "a\u3000b.png", "\U0001f468\u200d\U0001f33e.png"),
    ],
)
def test_names_inside(tmp_path: Path, name: str) -> None:
    assert join_inside(tmp_path, name, "x.json") == tmp_path / name


@pytest.mark.parametrize(
    "name",
    [
        *("../a", "a/../../b", "a/..", "/etc/passwd", "C:\\a", "..\\a", "", ".", 3, None, ["a"]),
        *("a\nb", "\x1b[31m", "a\0b", "a\u2028b", "a\u202eb", "x" * 256, "\u00e9" * 128, "\ud800"),
    ],
)
def test_names_that_are_refused(tmp_path: Path, name: object) -> None:
    with pytest.raises(UserError, match=r"^x\.json: ") as caught:
        join_inside(tmp_path, name, "x.json")
    assert str(caught.value).isprintable()


def test_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/run") == tmp_path / "run"
    assert user_path("a/~") == Path("a/~")
    for text in ("~nosuchuser/x", "a\0b", "a\ud800b"):
        with pytest.raises(UserError):
            user_path(text)


def test_messages_are_one_line() -> None:
    assert printable("a\n\x1b[2J\u202e") == r"a\n\x1b[2J\u202e"
    assert printable("x" * 1000) == "x" * 197 + "..."
    assert printable({"a": 1}) == "{'a': 1}"


def test_links_are_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("precious")
    for target in ("theirs", "nowhere"):
        path = tmp_path / f"a-{target}"
        path.symlink_to(tmp_path / target)
        write_text(path, "new")
        assert path.read_text() == "new" and not path.is_symlink()
    assert (tmp_path / "theirs").read_text() == "precious"
    assert not (tmp_path / "nowhere").exists()


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    def fail(beside: Path) -> None:
        beside.write_text("half")
        raise KeyboardInterrupt

    (tmp_path / "a").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        replace(tmp_path / "a", fail)
    assert (tmp_path / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_threads_write_whole_files(tmp_path: Path) -> None:
    texts = [str(number) * 100_000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for _ in pool.map(lambda text: write_text(tmp_path / "a", text), texts * 8):
            assert (tmp_path / "a").read_text() in texts
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_files_get_the_usual_permissions(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_streams_are_written_as_they_are(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit((tmp_path / "pipe").read_text)
        write_text(tmp_path / "pipe", "x")
        assert read.result() == "x"


@pytest.mark.parametrize("name", ["a/b", "a\\b", "..", "", " a", "a ", "a\n", 3])
def test_names_of_more_than_a_file(name: object) -> None:
    assert check_file_name("a b.c", "x.json") == "a b.c"
    with pytest.raises(UserError, match=r"^x\.json: "):
        check_file_name(name, "x.json")


@pytest.mark.parametrize("letter", ["x", "\u00e9", "\udcff"])
def test_long_names_are_cut_and_stay_distinct(tmp_path: Path, letter: str) -> None:
    names = [letter * 240 + end for end in "ab"]
    short = [short_name(name, limit=100) for name in names]
    assert len({*short, *names}) == 4 and short_name("a" * 100, limit=100) == "a" * 100
    assert all(len(os.fsencode(name)) <= 100 for name in short)
    for name in short:
        (tmp_path / name).touch()


def test_an_option_of_argparse_shows_the_message(capsys, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", type=path_argument)
    assert parser.parse_args(["--output", "~/a"]).output == tmp_path / "a"
    with pytest.raises(SystemExit) as stop:
        parser.parse_args(["--output", "~nosuchuser/a"])
    assert stop.value.code == 2 and "there is no such user" in capsys.readouterr().err


def test_texts_that_may_be_paths(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expand_home("~/a.pth") == f"{tmp_path}/a.pth"
    for text in ("https://a//b", "a/~", "detectron2://x.pkl", ""):
        assert expand_home(text) == text


def test_a_user_error_is_one_printable_line(capsys) -> None:
    with pytest.raises(SystemExit) as stop, exit_on_user_error():
        raise UserError("a\x1b[31m\nb \u202e \udcff caf\u00e9 " + "x" * 5000)
    line = capsys.readouterr().err
    assert stop.value.code == 2
    assert line.startswith(r"error: a\x1b[31m\nb \u202e \udcff caf" + "\u00e9 xxx")
    assert line.count("\n") == 1 and len(line) < 2100
