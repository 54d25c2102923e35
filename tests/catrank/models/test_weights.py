"""Weights by name and path."""

import pytest

from catrank.models import find, resolve
from segcore.errors import UserError


def test_a_shipped_model_is_a_file_at_once(repository) -> None:
    weights = resolve("scenes-60")
    assert weights.path == repository / "demo/models/scenes_60.safetensors"
    assert weights.entry is find("scenes-60")


def test_a_file_is_taken_as_it_is_also_where_a_model_has_its_name(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("own.pth", "scenes-60"):
        (tmp_path / name).write_bytes(b"x")
        assert resolve(name).path.samefile(tmp_path / name) and resolve(name).entry is None
    assert resolve(tmp_path / "own.pth").path == tmp_path / "own.pth"


@pytest.mark.parametrize("name", ["missing.pth", "folder/missing", "./scenes-60"])
def test_a_path_that_is_no_file_is_no_name(name, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="there is no checkpoint"):
        resolve(name)
