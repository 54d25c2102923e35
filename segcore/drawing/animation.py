"""Write animated GIF or WebP images, which browsers play without a video player."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from segcore.drawing.overlays import fit
from segcore.errors import UserError
from segcore.runtime.files import replace

# A GIF needs a palette: without dithering, flat colours stay flat and the file stays small.
_SAVING = {
    ".gif": {"optimize": True, "disposal": 1},
    ".webp": {"quality": 80, "method": 4},
}


def write_animation(
    frames: Iterable[np.ndarray], path: str | Path, fps: float = 8, *, side: int | None = None
) -> Path:
    """Write frames as an animated image that repeats, and return its path.

    Args:
        frames: (H, W, 3) uint8, RGB, at least one, all of one size.
        path: ends in .gif or .webp, which is smaller; its folder is created if absent.
        fps: frames per second, up to 50: browsers slow down faster animations.
        side: pixels of the longer side; None keeps the size of the frames.

    Returns:
        the path.

    Raises:
        UserError: there are no frames, the suffix is another one, or the file cannot be written.
        ValueError: `fps` is out of range.
    """
    path = Path(path)
    if path.suffix.lower() not in _SAVING:
        raise UserError(f"{path}: an animated image ends in {' or '.join(_SAVING)}")
    if not 0 < fps <= 50:
        raise ValueError(f"{fps} frames a second: take more than 0 and at most 50")
    images = (_image(frame, path, side) for frame in frames)
    first = next(images, None)
    if first is None:
        raise UserError(f"{path} would have no frames: give at least one")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save = partial(
            first.save,
            save_all=True,
            append_images=images,
            duration=round(1000 / fps),
            loop=0,
            **_SAVING[path.suffix.lower()],
        )
        replace(path, save)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    return path


def _image(frame: np.ndarray, path: Path, side: int | None) -> Image.Image:
    image = Image.fromarray(frame if side is None else fit(frame, side))
    if path.suffix.lower() != ".gif":
        return image
    return image.quantize(256, dither=Image.Dither.NONE)
