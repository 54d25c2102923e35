"""An installed wheel works outside of the source folder."""

import subprocess
import sys
import zipfile

import pytest

PROGRAM = """
import segcore
from catrank import import_families
from segcore.config import load_config
from segcore.vocabulary import Vocabulary, registered_names

print(segcore.__file__)
for name in ("catseg_d2/vitb_384.yaml", "mask2former_rankseg/scenes_60_panoptic.yaml"):
    (family,) = import_families(name)
    print(family, load_config(name).MODEL.META_ARCHITECTURE)
print(len(Vocabulary.load("ade20k_150")), len(registered_names()))
"""


@pytest.fixture(scope="module")
def installed(repository, tmp_path_factory):
    """Unpack the wheel and return the folder."""
    pytest.importorskip("hatchling", reason="the wheel is built with hatchling: pip install it")
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=repository, check=True, capture_output=True)
    (wheel,) = folder.glob("catrank-*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


def test_configs_and_vocabularies_are_included(repository, installed, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        env={"PYTHONPATH": str(installed), "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    location, catseg, closed, counts = done.stdout.splitlines()
    assert location.startswith(str(installed))
    assert catseg == "catseg_d2 CATSeg"
    assert closed == "mask2former_rankseg MaskFormer"
    files = list((repository / "segcore" / "vocabularies").glob("*.json"))
    assert counts == f"150 {len(files)}"


def test_every_config_is_in_it(repository, installed):
    ours = {path.relative_to(repository) for path in (repository / "configs").rglob("*.yaml")}
    assert ours
    for path in ours:
        assert (installed / "segcore" / path).read_bytes() == (repository / path).read_bytes()
