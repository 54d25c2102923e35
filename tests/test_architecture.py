"""The rules between the layers: entry points -> families -> segcore -> detectron2 / torch."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

FAMILIES = {"catseg_d2"}
# Where a family may speak to Detectron2; its mathematics is used and tested without a config.
SHELL = {"__init__.py", "config.py", "meta_arch.py", "checkpoint.py"}


def imported(path: Path) -> Iterator[str]:
    """Top-level names of the packages that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0]


def test_the_rule_would_notice(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_text("def f():\n    import detectron2.layers\n    from catseg_d2 import clip\n")
    assert set(imported(path)) == {"detectron2", "catseg_d2"}


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_families_know_neither_each_other_nor_detectron2_in_their_mathematics(
    repository: Path, family: str
) -> None:
    for path in (repository / family).rglob("*.py"):
        names = set(imported(path))
        assert not names & (FAMILIES - {family}), f"{path} imports another family"
        if path.name not in SHELL:
            assert "detectron2" not in names, f"{path} is mathematics, but imports Detectron2"


def test_segcore_knows_no_family(repository: Path) -> None:
    for path in (repository / "segcore").rglob("*.py"):
        assert not set(imported(path)) & FAMILIES, f"{path} imports a family"


def test_nothing_imports_the_stand_in_by_its_folder(repository: Path) -> None:
    for folder in ("segcore", "demo", "tools", *FAMILIES):
        for path in (repository / folder).rglob("*.py"):
            assert "d2lite" not in set(imported(path)), path
