"""The stand-in for Detectron2 inside the wheel: used where no other ``detectron2`` is there."""

import ast
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from segcore.runtime import platform

REQUIREMENT = re.compile(r'^ {4}"([A-Za-z0-9_.-]+>=[^"]+)"', re.MULTILINE)


@pytest.fixture(scope="module")
def libraries(tmp_path_factory) -> Path:
    """A folder of what is installed here, but for everything called ``detectron2`` and for what
    the ``.pth`` files of editable installations add."""
    folder = tmp_path_factory.mktemp("libraries")
    for name in map(Path, sys.path):
        if name.name not in ("site-packages", "dist-packages"):
            continue
        for item in name.iterdir():
            mine = item.name.startswith(("detectron2", "catrank", "__pycache__"))
            if not mine and item.suffix != ".pth" and not (folder / item.name).exists():
                (folder / item.name).symlink_to(item)
    return folder


@pytest.fixture(scope="module")
def wheel(repository, tmp_path_factory) -> Path:
    """A folder that holds what the wheel installs."""
    pytest.importorskip("hatchling", reason="the wheel is built with hatchling: pip install it")
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=repository, check=True, capture_output=True)
    (file,) = folder.glob("catrank-*.whl")
    zipfile.ZipFile(file).extractall(folder / "site")
    return folder / "site"


@pytest.fixture
def run(wheel, libraries, tmp_path) -> Callable[..., list[str]]:
    """Runs a program with the wheel and without an installed Detectron2; the lines it prints."""

    def call(program: str, *folders: Path) -> list[str]:
        (tmp_path / "program.py").write_text(program)
        path = os.pathsep.join(map(str, (*folders, wheel, libraries)))
        done = subprocess.run(
            # Neither the .pth files of this environment nor a user's own folder are read.
            [sys.executable, "-S", "-W", "ignore", "program.py"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return call


WHERE = "print(importlib.import_module('detectron2').__file__)"


@pytest.mark.parametrize("ours", ["catrank", "segcore"])
def test_it_is_used_where_there_is_no_detectron2(run, wheel, ours):
    lines = run(f"import importlib, {ours}\n{WHERE}")
    assert lines == [str(wheel / "segcore/_stand_in/detectron2/__init__.py")]


@pytest.mark.parametrize(
    "family", ["catseg_d2", "groupvit_mixreorg", "mask2former_rankseg", "per_pixel"]
)
def test_the_first_import_of_a_family_is_segcore(repository, family):
    tree = ast.parse((repository / family / "__init__.py").read_text())
    first = next(node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom))
    assert isinstance(first, ast.Import) and first.names[0].name.split(".")[0] == "segcore"


def test_a_config_gives_a_model_and_spawned_workers_find_it(run):
    program = """
import multiprocessing
import catrank

def whose(_):
    from detectron2.structures import Boxes
    return Boxes.__module__

if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(*pool.map(whose, [0]))
    catrank.import_families("mask2former_rankseg/scenes_60_rankseg.yaml")
    from detectron2.engine import DefaultPredictor
    from segcore.config import load_config
    cfg = load_config("mask2former_rankseg/scenes_60_rankseg.yaml", ["MODEL.DEVICE", "cpu"])
    print(type(DefaultPredictor(cfg).model).__name__)
"""
    assert run(program) == ["detectron2.structures.boxes", "MaskFormer"]


def test_importing_the_public_package_loads_nothing_of_it(run):
    program = "import sys, catrank\nprint({'detectron2', 'torch', 'numpy'} & set(sys.modules))"
    assert run(program) == ["set()"]


def test_an_installed_detectron2_wins_wherever_it_stands_on_the_path(run, tmp_path):
    """The one of this environment, in the place where ``pip`` puts it."""
    installed = Path(find_spec("detectron2").origin).parents[1]
    folder = tmp_path / "installed"
    folder.mkdir()
    (folder / "detectron2").symlink_to(installed / "detectron2")
    program = f"""
import importlib, sys
sys.path.append({str(folder)!r})
before = list(sys.path)
import catrank, segcore
{WHERE}
print(sys.path == before, any("_stand_in" in str(module) for module in sys.modules.values()))
"""
    assert run(program) == [str(folder / "detectron2" / "__init__.py"), "True False"]


def test_a_folder_of_that_name_beside_a_script_is_no_detectron2(run, wheel, tmp_path):
    """A clone of Detectron2's repository, for instance."""
    (tmp_path / "detectron2" / "projects").mkdir(parents=True)
    (found,) = run(f"import importlib, catrank\n{WHERE}")
    assert found.startswith(str(wheel))


def test_in_a_source_folder_it_is_that_of_the_folder(run, repository):
    (found,) = run(f"import importlib, catrank\n{WHERE}", repository)
    assert found == str(repository / "d2lite" / "detectron2" / "__init__.py")


def test_without_either_the_error_names_the_command(monkeypatch, tmp_path):
    monkeypatch.setattr(platform, "PACKAGE", "detectron2_that_is_nowhere")
    path = list(sys.path)
    with pytest.raises(ImportError, match=r"needs Detectron2.*`pip install \./d2lite`"):
        platform.provide_detectron2()
    assert sys.path == path


def test_its_dependencies_are_ours(repository):
    ours, its = (
        set(REQUIREMENT.findall((repository / file).read_text()))
        for file in ("pyproject.toml", "d2lite/pyproject.toml")
    )
    assert len(its) > 8 and its <= ours
