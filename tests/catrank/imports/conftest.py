"""A tiny labelled set, written in the formats of annotation tools."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from catrank.cli import main

sys.path.insert(0, str(Path(__file__).parents[2]))  # tests/, which is no package

from drawn_labels import HEIGHT, WIDTH, label_map


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Five photographs."""
    folder = tmp_path / "export/images"
    folder.mkdir(parents=True)
    noise = np.random.default_rng(0)
    for number in range(5):
        pixels = noise.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., dict]:
    """Return a function that imports a source, and returns the description."""

    def run(source: Path, *options: str) -> dict:
        arguments = [str(source), "--output", str(tmp_path / "new"), "--workers", "1", *options]
        assert main(["data", "import", *arguments]) == 0
        return json.loads((tmp_path / "new/new.json").read_text("utf-8"))

    return run


@pytest.fixture
def check_maps(tmp_path: Path) -> Callable[..., None]:
    """Return a function that compares all imported label maps with the drawn ones."""

    def check(expected: Callable[[int], np.ndarray] = label_map) -> None:
        found = {path.stem: path for path in (tmp_path / "new/labels").rglob("*.png")}
        assert sorted(found) == ["0", "1", "2", "3", "4"]
        for name, path in found.items():
            np.testing.assert_array_equal(np.asarray(Image.open(path)), expected(int(name)))
            split = path.parent.name
            assert (tmp_path / f"new/images/{split}/{name}.png").is_file()

    return check
