"""Imports between layers: entry points -> catrank -> families -> segcore -> detectron2 / torch."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

FAMILIES = {"catseg_d2", "groupvit_mixreorg", "mask2former_rankseg", "per_pixel"}
PUBLIC = {"catrank"}  # above the families, below the entry points
ENTRY_POINTS = {"demo", "tools", "train_net", "bench", "datasets"}
# Modules of a family that may import Detectron2 and all of segcore. The others are its mathematics,
# which is used and tested without a config.
SHELL = {"__init__", "config", "meta_arch", "checkpoint"}
SHELL_OF = {
    "catseg_d2": {"contrastive", "rank_adapter", "rank_config"},
    "mask2former_rankseg": {"head_checks", "heads", "outputs", "video"},
    "per_pixel": {"builders", "multilabel", "pixel_builders"},
}
# Modules of segcore that import neither configs nor Detectron2.
MATHEMATICS_MAY_IMPORT = (
    "torch",
    "segcore.averages",
    "segcore.checkpoint.renaming",
    "segcore.deformable",
    "segcore.inference.predictions",
    "segcore.inference.sliding",
    "segcore.inference.unmerged",
    "segcore.errors",
    "segcore.memory",
    "segcore.rankseg",
    "segcore.text",
    "segcore.vocabulary",
    "segcore.inference.precision",
    "segcore.inference.windows",
)
# CLIP's encoders and layers are open_clip's, blocks of vision transformers timm's; scipy solves the
# assignment, faiss has an index of classes.
LIBRARIES = {
    "build": ("open_clip",),
    "clip": ("open_clip",),
    "eva02": ("timm",),
    "faiss_index": ("faiss",),
    "grouping": ("timm",),
    "image_encoder": ("timm",),
    "matcher": ("scipy",),
    "mixreorg": ("timm",),
    "siglip": ("timm",),
    "text_encoder": ("open_clip",),
    "timm_trunk": ("open_clip", "timm"),
}


def imported(path: Path) -> Iterator[str]:
    """Yield the modules that a file imports, with all their dots: "segcore.errors", ".clip"."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield "." * node.level + node.module
        elif isinstance(node, ast.ImportFrom):
            yield from ("." * node.level + alias.name for alias in node.names)


def packages(path: Path) -> set[str]:
    """Return the top-level packages that a file imports, without relative imports."""
    return {name.split(".")[0] for name in imported(path)} - {""}


def shell(family: str) -> set[str]:
    """Return the names of the modules of a family's shell."""
    return SHELL | SHELL_OF.get(family, set())


def may_import(family_file: Path, name: str) -> bool:
    """Whether a file with a family's mathematics may import a module of that name."""
    if name.startswith("."):
        level = len(name) - len(name.lstrip("."))
        return level == 1 and name[1:].split(".")[0] not in shell(family_file.parent.name)
    allowed = (*MATHEMATICS_MAY_IMPORT, *LIBRARIES.get(family_file.stem, ()))
    return name.split(".")[0] in sys.stdlib_module_names or any(
        name == module or name.startswith(f"{module}.") for module in allowed
    )


@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        ("import torch.nn.functional as F", True),
        ("from collections.abc import Iterator", True),
        ("from segcore.vocabulary import Vocabulary", True),
        ("from .spatial import GuidedLinear", True),
        ("from . import spatial", True),
        ("import open_clip", False),
        ("import numpy", False),
        ("def f():\n    import detectron2.layers", False),
        ("from segcore.config import load_config", False),
        ("from segcore import config", False),
        ("from .meta_arch import CATSeg", False),
        ("from . import config", False),
        ("from ..other import x", False),
        ("from catseg_d2 import clip", False),
    ],
)
def test_the_rule_detects_violations(tmp_path: Path, statement: str, allowed: bool) -> None:
    path = tmp_path / "decoder.py"
    path.write_text(statement)
    assert all(may_import(path, name) for name in imported(path)) is allowed


def test_encoders_may_use_open_clip() -> None:
    assert may_import(Path("clip.py"), "open_clip")


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_mathematics_of_a_family_imports_torch_alone(repository: Path, family: str) -> None:
    files = [path for path in (repository / family).rglob("*.py") if path.stem not in shell(family)]
    assert files
    for path in files:
        wrong = [name for name in imported(path) if not may_import(path, name)]
        assert not wrong, f"{path} is mathematics, but imports {wrong}"


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_families_import_neither_each_other_nor_entry_points(repository: Path, family: str) -> None:
    for path in (repository / family).rglob("*.py"):
        wrong = packages(path) & ((FAMILIES | PUBLIC | ENTRY_POINTS) - {family})
        assert not wrong, f"{path} imports {wrong}"


def test_segcore_imports_no_family_and_no_entry_point(repository: Path) -> None:
    for path in (repository / "segcore").rglob("*.py"):
        wrong = packages(path) & (FAMILIES | PUBLIC | ENTRY_POINTS)
        assert not wrong, f"{path} imports {wrong}"


def test_catrank_imports_no_entry_point(repository: Path) -> None:
    files = list((repository / "catrank").rglob("*.py"))
    assert files
    for path in files:
        assert not packages(path) & ENTRY_POINTS, path


def test_rankseg_imports_no_family(repository: Path) -> None:
    files = list((repository / "segcore" / "rankseg").glob("*.py"))
    assert len(files) > 5
    for path in files:
        wrong = {
            name
            for name in imported(path)
            if not name.startswith(("torch", "segcore.errors", "."))
            and name.split(".")[0] not in sys.stdlib_module_names
        }
        assert not wrong and ".." not in "".join(imported(path)), f"{path} imports {wrong}"


def test_nothing_imports_the_stand_in_by_its_folder(repository: Path) -> None:
    for folder in ("segcore", "demo", "tools", *PUBLIC, *FAMILIES):
        for path in (repository / folder).rglob("*.py"):
            assert "d2lite" not in packages(path), path


def test_the_stand_in_declares_what_it_imports(repository: Path) -> None:
    text = (repository / "d2lite" / "pyproject.toml").read_text()
    declared = set(re.findall(r'^ {4}"([a-z_]+)>=', text, re.MULTILINE))
    files = (repository / "d2lite" / "detectron2").rglob("*.py")
    names = {name.partition(".")[0] for path in files for name in imported(path)}
    third_party = names - sys.stdlib_module_names - {"", "detectron2"}
    distributions = {"PIL": "pillow", "yaml": "pyyaml"}
    assert {distributions.get(name, name) for name in third_party} <= declared


def test_contributing_states_the_same_rule(repository: Path) -> None:
    text = (repository / "CONTRIBUTING.md").read_text()
    for name in (*SHELL.union(*SHELL_OF.values()), *LIBRARIES):
        assert f"`{name}.py`" in text
    for module in MATHEMATICS_MAY_IMPORT:
        assert f"`{module}`" in text
