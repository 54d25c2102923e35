"""An installed wheel works outside of the source folder, the command first of all.

A fresh environment holds the wheel alone; what it depends on is that of the tests.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

PROGRAM = """
import segcore
from catrank import load_config
from segcore.vocabulary import Vocabulary, registered_names

print(segcore.__file__)
for name in ("catseg_d2/vitb_384.yaml", "mask2former_rankseg/scenes_60_panoptic.yaml"):
    print(load_config(name).MODEL.META_ARCHITECTURE)
print(len(Vocabulary.load("ade20k_150")), len(registered_names()))
"""


@pytest.fixture(scope="module")
def environment(repository: Path, tmp_path_factory) -> Path:
    """The folder of a virtual environment with the wheel."""
    pytest.importorskip("hatchling", reason="the wheel is built with hatchling: pip install it")
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=repository, check=True, capture_output=True)
    (wheel,) = folder.glob("catrank-*.whl")
    environment = folder / "environment"
    make = [sys.executable, "-m", "venv", "--without-pip", str(environment)]
    subprocess.run(make, check=True)
    python = environment / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q"]
    subprocess.run([*install, "--no-deps", "--no-index", str(wheel)], check=True)
    # Folders that a .pth file names are searched, but their own .pth files are not read: of the
    # source folder, which is installed there by one, nothing is found.
    (site,) = environment.glob("lib/python*/site-packages")
    others = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (site / "dependencies.pth").write_text("\n".join(others) + "\n")
    return environment


@pytest.fixture
def run(environment: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess]:
    """Run a program of the environment in an empty folder."""

    def run(program: str, *arguments: object, code: int = 0) -> subprocess.CompletedProcess:
        variables = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        done = subprocess.run(
            [str(environment / "bin" / program), *map(str, arguments)],
            cwd=tmp_path,
            env=variables | {"HOME": str(tmp_path), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return run


def test_configs_and_vocabularies_are_included(repository, environment, run) -> None:
    location, catseg, closed, counts = run("python", "-c", PROGRAM).stdout.splitlines()
    assert location.startswith(str(environment))
    assert (catseg, closed) == ("CATSeg", "MaskFormer")
    files = list((repository / "segcore" / "vocabularies").glob("*.json"))
    assert counts == f"150 {len(files)}"


def test_every_config_is_in_it(repository, environment) -> None:
    (site,) = environment.glob("lib/python*/site-packages")
    ours = {path.relative_to(repository) for path in (repository / "configs").rglob("*.yaml")}
    assert ours
    for path in ours:
        assert (site / "segcore" / path).read_bytes() == (repository / path).read_bytes()


def test_info(run) -> None:
    done = run("catrank", "info")
    assert "\n  detectron2 " in done.stdout and "not installed" not in done.stdout
    assert done.stderr == ""


def test_models_list(run) -> None:
    lines = run("catrank", "models", "list").stdout.splitlines()
    assert any(line.startswith("scenes-60 ") for line in lines)


@pytest.fixture
def image(tmp_path: Path) -> str:
    """The name of an image in the folder where programs run."""
    pixels = np.arange(48 * 64 * 3, dtype=np.uint8).reshape(48, 64, 3)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    return "image.png"


def test_segment(run, tmp_path, image) -> None:
    """With a model that comes in the wheel."""
    line = (image, "--model", "scenes-60", "--classes", "red disk, sand", "--device", "cpu")
    done = run("catrank", "segment", *line)
    model, counted = done.stdout.splitlines()
    assert model.startswith("model: scenes-60 (") and "2: red disk, sand" in model
    assert counted == "1 of 1 images segmented, see segmented"
    with Image.open(tmp_path / "segmented/image_labels.png") as labels:
        assert labels.size == (64, 48) and np.asarray(labels).max() < 2


def test_segment_without_a_model(run, tmp_path, image) -> None:
    """With DeepLabv3, whose licence and notice lie beside it."""
    done = run("catrank", "segment", image, "--device", "cpu")
    assert done.stdout.startswith("model: deeplabv3-mobilenet-voc, because --model names none (")
    with Image.open(tmp_path / "segmented/image_labels.png") as labels:
        assert labels.size == (64, 48) and np.asarray(labels).max() < 21


def test_licences(environment) -> None:
    (licences,) = environment.glob("lib/python*/site-packages/catrank-*.dist-info/licenses")
    assert "Apache License" in (licences / "LICENSE").read_text()
    notice = licences / "demo/models/deeplabv3_mobilenet_voc.NOTICE"
    assert "The TensorFlow Authors" in notice.read_text()


def test_data_status(run) -> None:
    lines = run("catrank", "data", "status").stdout.splitlines()
    assert lines[-1].startswith("0 of ") and "  then:     catrank data prepare voc" in lines


def test_vocabulary_lint(run) -> None:
    done = run("catrank", "vocabulary", "lint", "scenes_60", "cat, dog, cat", code=1)
    assert done.stdout.count("\n") == 1 and "'cat'" in done.stdout


def test_what_is_prepared_is_checked(run) -> None:
    options = ("--num-images", 4, 2, "--size", 48, "--workers", 1)
    run("catrank", "data", "prepare", "scenes", *options)
    done = run("catrank", "data", "check", "--dataset", "scenes_60_test", "--workers", 1)
    assert "2 images, 2 label maps, 2 pairs" in done.stdout
