"""Animated images hold all frames, in order, at their pace."""

import numpy as np
import pytest
from PIL import Image, ImageSequence

from segcore.drawing.animation import write_animation
from segcore.errors import UserError


def frames(count: int = 5) -> list[np.ndarray]:
    """Grey that gets lighter, 20 x 40."""
    return [np.full((20, 40, 3), 50 * number, dtype=np.uint8) for number in range(count)]


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_every_frame_is_there(tmp_path, suffix):
    path = write_animation(iter(frames()), tmp_path / "new" / f"a{suffix}", fps=10)
    with Image.open(path) as image:
        assert image.n_frames == 5 and image.size == (40, 20) and image.info["loop"] == 0
        shown = [frame.convert("RGB").getpixel((5, 5)) for frame in ImageSequence.Iterator(image)]
        assert image.info["duration"] == 100
    assert np.abs(np.array(shown) - 50 * np.arange(5)[:, None]).max() <= 3


def test_they_are_made_smaller(tmp_path):
    with Image.open(write_animation(frames(), tmp_path / "a.gif", side=20)) as image:
        assert image.size == (20, 10)


@pytest.mark.parametrize(
    ("name", "count", "said"), [("a.mp4", 1, "ends in"), ("a.gif", 0, "no frames")]
)
def test_an_error_is_one_error_message(tmp_path, name, count, said):
    with pytest.raises(UserError, match=said):
        write_animation(frames(count), tmp_path / name)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"):
        write_animation(frames(), tmp_path / "file" / "a.gif")


def test_no_browser_is_so_fast(tmp_path):
    with pytest.raises(ValueError, match="at most 50"):
        write_animation(frames(), tmp_path / "a.gif", fps=60)
