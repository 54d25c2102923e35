"""Write video files frame by frame, with PyAV."""

import math
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from pathlib import Path

import numpy as np

from segcore.errors import UserError, printable
from segcore.runtime.files import replacing
from segcore.video_files.reading import load_av

WRITTEN_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".avi")
BT601 = 6  # number of the matrix from RGB to YCbCr: H.273, table 4


class VideoWriter:
    """Write a video file frame by frame; a context manager.

    The codec is H.264 if FFmpeg was built with libx264, else MPEG-4. Both need even sides, so a
    frame of an odd size gets its last row or column twice. There is no sound. The file takes its
    name when it is complete; after an error it holds the frames until then.
    """

    def __init__(
        self, path: str | Path, rate: Fraction, pixel_aspect: Fraction = Fraction(1)
    ) -> None:
        """
        Args:
            path: with one of WRITTEN_SUFFIXES; its folder is created if absent.
            rate: frames per second.
            pixel_aspect: width of a pixel over its height.
        """
        self.path, self.rate = Path(path), _representable(rate)
        self.pixel_aspect = pixel_aspect
        self._container = self._stream = None
        self._replacing = ExitStack()

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, *_: object) -> None:
        if self._container is None:
            return
        with _writing(self.path), self._replacing, self._container:
            self._container.mux(self._stream.encode())

    def write(self, image: np.ndarray) -> None:
        """Append a frame, (H, W, 3) uint8, RGB, of the size of the first one.

        Raises:
            UserError: the file cannot be written.
        """
        height, width = image.shape[:2]
        even = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        with _writing(self.path):
            if self._container is None:
                self._begin(*even.shape[:2])
            frame = load_av().VideoFrame.from_ndarray(even, format="rgb24")
            self._container.mux(self._stream.encode(frame))

    def _begin(self, height: int, width: int) -> None:
        av = load_av()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        h264 = "libx264" in av.codecs_available
        codec, options = ("libx264", {"crf": "20"}) if h264 else ("mpeg4", {"qscale": "3"})
        with ExitStack() as stack:
            container = av.open(str(stack.enter_context(replacing(self.path))), "w")
            stream = container.add_stream(codec, rate=self.rate, options=options)
            self._replacing = stack.pop_all()
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.colorspace = BT601  # FFmpeg's conversion; players guess it by size
        if self.pixel_aspect != 1:
            stream.codec_context.sample_aspect_ratio = self.pixel_aspect
        self._container, self._stream = container, stream


def check_output_file(path: str | Path) -> None:
    """Refuse a video file that cannot be written, before any work is done for it.

    Raises:
        UserError: the suffix is no video's, the folder cannot be written, or PyAV is not
            installed.
    """
    load_av()
    if Path(path).suffix.lower() not in WRITTEN_SUFFIXES:
        raise UserError(
            f"{printable(path)}: videos are written as {', '.join(WRITTEN_SUFFIXES)}; a name "
            "without a suffix is a folder of frames"
        )
    path = Path(path)
    with _writing(path):
        with suppress(FileNotFoundError):
            path.lstat()  # raises for names that are too long
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn errors of writing into a UserError."""
    try:
        yield
    except (load_av().error.FFmpegError, OSError) as error:
        raise UserError(
            f"cannot write {printable(path)}: {error.strerror or error}; give another --output or "
            "free it"
        ) from error


def _representable(rate: Fraction) -> Fraction:
    """Return the nearest rate with a numerator of 16 bits, the most that MPEG-4 can store."""
    return Fraction(rate).limit_denominator(max(1, min(1001, 65535 // math.ceil(rate))))
