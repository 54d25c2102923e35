"""Copies of checkpoints in the cache do not pile up."""

import os
from pathlib import Path

import pytest
import safetensors.torch
import torch

from segcore.checkpoint import convert_for_detectron2, copies


@pytest.fixture
def copy_of(tmp_path, monkeypatch):
    """Number -> the copy of a file with that number in it."""
    monkeypatch.setenv("CATRANK_CACHE", str(tmp_path / "cache"))

    def convert(number: int) -> Path:
        path = tmp_path / "m.safetensors"
        safetensors.torch.save_file({"w": torch.full((1000,), float(number))}, path)
        return Path(convert_for_detectron2(str(path)))

    return convert


def age(path: Path, seconds: float) -> None:
    """Make the last use of a copy longer ago."""
    before = path.stat().st_mtime - seconds
    os.utime(path, (before, before))


def test_copies_that_were_not_used_for_long_are_removed(copy_of):
    old, recent = copy_of(0), copy_of(1)
    age(old, copies.MAX_IDLE + 60)
    age(recent, copies.MAX_IDLE - 60)
    copy_of(2)
    assert not old.exists() and recent.exists()


def test_a_use_is_noted(copy_of):
    copy = copy_of(0)
    age(copy, copies.MAX_IDLE + 60)
    assert copy_of(0) == copy
    copy_of(1)
    assert copy.exists()


def test_beyond_a_size_the_least_recently_used_go(copy_of, monkeypatch):
    first, second, third = copy_of(0), copy_of(1), copy_of(2)
    for days, copy in enumerate((second, third, first), 1):
        age(copy, days * 86400)
    monkeypatch.setattr(copies, "MAX_BYTES", 3.5 * first.stat().st_size)
    copy_of(3)
    assert second.exists() and third.exists() and not first.exists()


def test_what_another_process_may_be_loading_stays(copy_of, monkeypatch):
    monkeypatch.setattr(copies, "MAX_BYTES", 0)
    kept = [copy_of(number) for number in range(3)]
    assert all(copy.exists() for copy in kept)


def test_what_a_killed_process_was_writing_goes_when_it_is_old(copy_of):
    folder = copy_of(0).parent
    for name in ("old", "new"):
        (folder / f"{name}{copies.UNFINISHED}").touch()
    age(folder / f"old{copies.UNFINISHED}", copies.IN_USE + 60)
    copy_of(1)
    assert [path.name for path in folder.glob(f"*{copies.UNFINISHED}")] == ["new.unfinished"]
