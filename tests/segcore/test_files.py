"""Paths from people and from files."""

from pathlib import Path

import pytest

from segcore.errors import UserError, printable
from segcore.files import join_inside, user_path


@pytest.mark.parametrize("name", ["a.png", "a/b.png", "..a", "a..b/c", "caf\u00e9.png", "./a"])
def test_names_inside(tmp_path: Path, name: str) -> None:
    assert join_inside(tmp_path, name, "x.json") == tmp_path / name


@pytest.mark.parametrize(
    "name",
    [
        *("../a", "a/../../b", "a/..", "/etc/passwd", "C:\\a", "..\\a", "", ".", 3, None, ["a"]),
        *("a\nb", "\x1b[31m", "a\0b", "x" * 256, "\u00e9" * 128, "\ud800"),
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
    for text in ("~nosuchuser/x", "a\0b"):
        with pytest.raises(UserError):
            user_path(text)


def test_messages_are_one_line() -> None:
    assert printable("a\n\x1b[2J\u202e") == r"a\n\x1b[2J\u202e"
    assert printable("x" * 1000) == "x" * 197 + "..."
    assert printable({"a": 1}) == "{'a': 1}"
