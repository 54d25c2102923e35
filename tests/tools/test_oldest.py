"""Every dependency has a lower bound, of which the oldest environment is made."""

import importlib.util
from pathlib import Path

import pytest

pytest.importorskip("packaging")


@pytest.fixture
def oldest(repository):
    file = repository / "tools" / "oldest.py"
    spec = importlib.util.spec_from_file_location("oldest", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def project(folder: Path, text: str) -> str:
    file = folder / "pyproject.toml"
    file.write_text(f"[project]\n{text}", encoding="utf-8")
    return str(file)


def test_every_dependency_has_a_bound(oldest, repository, capsys) -> None:
    extras = "test,video,mess,demo,dev,bench"
    oldest.main(
        [f"{repository}/pyproject.toml:{extras}", str(repository / "d2lite" / "pyproject.toml")]
    )
    lines = capsys.readouterr().out.splitlines()
    assert "torch==2.10" in lines and len(lines) == len(set(lines)) > 20


def test_the_highest_bound_counts_and_its_absence_is_named(oldest, tmp_path, capsys) -> None:
    file = project(
        tmp_path, 'dependencies = ["a>=1.10,<3", "A>=1.9"]\noptional-dependencies.x=["b"]'
    )
    oldest.main([file])
    assert capsys.readouterr().out == "a==1.10\n"
    with pytest.raises(ValueError, match="b has no lower bound"):
        oldest.main([f"{file}:x"])
