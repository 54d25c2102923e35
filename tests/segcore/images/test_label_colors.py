"""Label maps whose classes are colours."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segcore.errors import UserError
from segcore.images import pack_colors, read_class_ids, read_label_map, record_class_ids

COLORS = [(200, 0, 0), (0, 0, 0), (255, 255, 255), (0, 0, 1)]


@pytest.fixture
def ids() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4, (6, 9))


def write(path: Path, ids: np.ndarray, mode: str = "RGB") -> Path:
    Image.fromarray(np.array(COLORS, dtype=np.uint8)[ids]).convert(mode).save(path)
    return path


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_colours_are_class_ids(tmp_path: Path, ids: np.ndarray, mode: str) -> None:
    path = write(tmp_path / "a.png", ids, mode)
    found = read_class_ids(path, 4, 255, colors=pack_colors(COLORS))
    np.testing.assert_array_equal(found, ids)
    record = {"sem_seg_file_name": str(path), "label_colors": pack_colors(COLORS)}
    np.testing.assert_array_equal(record_class_ids(record, 4, 255), ids)


def test_integers_stay_what_they_are(tmp_path: Path, ids: np.ndarray) -> None:
    Image.fromarray(ids.astype(np.uint8)).save(tmp_path / "a.png")
    found = read_label_map(tmp_path / "a.png", 255, colors=pack_colors(COLORS))
    np.testing.assert_array_equal(found, ids)


def test_a_colour_of_no_class(tmp_path: Path, ids: np.ndarray) -> None:
    path = write(tmp_path / "a.png", ids)
    number = np.count_nonzero(ids == 2)
    with pytest.raises(UserError, match=rf"a\.png has the colour \[255, 255, 255\] in {number} "):
        read_label_map(path, 255, colors=pack_colors([COLORS[0], COLORS[1], COLORS[3]]))


def test_a_lossy_format_is_refused(tmp_path: Path, ids: np.ndarray) -> None:
    with pytest.raises(UserError, match=r"a\.jpg"):
        read_label_map(write(tmp_path / "a.jpg", ids), 255, colors=pack_colors(COLORS))


def test_they_are_turned_as_images_are(tmp_path: Path, ids: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.array(COLORS, dtype=np.uint8)[ids]).save(tmp_path / "a.png", exif=exif)
    found = read_label_map(tmp_path / "a.png", 255, colors=pack_colors(COLORS))
    np.testing.assert_array_equal(found, np.rot90(ids, -1))
