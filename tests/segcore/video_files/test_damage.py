"""Seeded damage to small files of every container: frames of one bounded size, or one UserError."""

import random
import resource
from pathlib import Path

import numpy as np
import pytest

from segcore.errors import UserError
from segcore.video_files import open_video

av = pytest.importorskip("av", reason="videos are read by PyAV: pip install av")

MAX_PIXELS = 1_000_000
NUM_FRAMES = 6
TRIALS = 40
MEMORY = 200 << 20  # bytes that damage may add to the process
# How each small file is coded; the suffix names the container.
CODECS = {
    ".mp4": "mpeg4",
    ".mov": "mjpeg",
    ".mkv": "mpeg4",
    ".webm": "libvpx",
    ".avi": "mpeg4",
}


def small_file(path: Path) -> bytes:
    codec = CODECS[path.suffix]
    if codec not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no encoder {codec}")
    noise = np.random.default_rng(0).integers(0, 60, (48, 64, 3))
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for number in range(NUM_FRAMES):
            pixels = (noise + 30 * number).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path.read_bytes()


def read(path: Path) -> tuple[int, bool]:
    """How many frames a file gives, and whether it says that it is damaged, in one line."""
    sizes = []
    try:
        for frame in open_video(path, MAX_PIXELS).frames():
            assert frame.dtype == np.uint8 and frame.shape[2] == 3
            sizes.append(frame.shape[:2])
    except UserError as error:
        assert str(error).isprintable() and str(path) in str(error)
        refused = True
    else:
        refused = False
    assert len(set(sizes)) <= 1 and all(height * width <= MAX_PIXELS for height, width in sizes)
    assert len(sizes) <= 10 * NUM_FRAMES
    return len(sizes), refused


def peak_memory() -> int:
    """Bytes that this process took at most until now."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


@pytest.mark.parametrize("suffix", CODECS)
def test_damaged_files(tmp_path: Path, suffix: str) -> None:
    """Bytes anywhere, and in the header, where they change sizes, counts and offsets."""
    path = tmp_path / f"damaged{suffix}"
    content = small_file(path)
    assert read(path) == (NUM_FRAMES, False)
    before, chance = peak_memory(), random.Random(suffix)
    starts = len(content) // 8 if suffix not in (".mp4", ".mov") else len(content)
    for trial in range(TRIALS):
        damaged = bytearray(content)
        for _ in range(chance.choice((1, 1, 2, 5, 20))):
            index = chance.randrange(starts if trial % 2 else len(damaged))
            damaged[index] = chance.choice((0, 255, chance.randrange(256)))
        path.write_bytes(damaged)
        read(path)
    assert peak_memory() - before < MEMORY


@pytest.mark.parametrize("suffix", CODECS)
def test_cut_files(tmp_path: Path, suffix: str) -> None:
    """A file without its second half is never read as a whole one."""
    path = tmp_path / f"cut{suffix}"
    content = small_file(path)
    chance = random.Random(suffix)
    for _ in range(TRIALS // 2):
        path.write_bytes(content[: chance.randrange(len(content) // 2)])
        frames, refused = read(path)
        assert refused and frames < NUM_FRAMES
