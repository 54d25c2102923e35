"""Images to label, and what a finished run has written."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

# The extra `test` has it; an environment of a user's own may not.
collect_ignore_glob = [] if find_spec("pyarrow") else ["test_*.py"]


def save_noise(path: Path, seed: int, size: tuple[int, int] = (32, 32)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Nine images of two sizes, and two files that are none, in a folder and one below."""
    folder = tmp_path / "photos"
    for seed in range(9):
        name = f"{seed}.png" if seed < 7 else f"more/{seed}.png"
        save_noise(folder / name, seed, (32, 32 + 8 * (seed % 2)))
    (folder / "2b.jpg").write_bytes(b"no image")
    (folder / "empty.png").touch()
    return folder


@pytest.fixture
def files() -> Callable[[Path], dict[str, bytes]]:
    """Return a function that reads all files of an output folder, by their names."""

    def read(folder: Path) -> dict[str, bytes]:
        paths = (path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}

    return read
