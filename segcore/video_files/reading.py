"""Read video files, with PyAV, and folders of frames as streams of images.

One frame is in memory at a time. The size in the header is checked before anything is decoded, only
video containers are opened (a playlist could name other files), and any error becomes one error
message that names the file.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from segcore.errors import UserError, printable
from segcore.images import MAX_PIXELS, read_image
from segcore.videos import Frames

CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,ogg,asf,gif,h264,hevc"
FOLDER_RATE = Fraction(25)  # frames per second of a folder, which has no frame rate
CUT_SECONDS = 0.2  # a file that ends earlier than its header says by more than this is truncated
SHOWN_FRACTION = 0.9  # of the frames that a header counts; a file with fewer is truncated
MAX_RATE = 1000  # frames per second; headers that say more are wrong
RATE_TOLERANCE = 0.02  # relative; timestamps are rounded
COUNTED = ("mov", "mp4")  # containers whose header gives the average rate


class BrokenVideo(UserError):
    """A video cannot be read from some frame on; the frames before are correct."""


class Video:
    """A video whose frames can be read from the first to the last, repeatedly.

    Attributes:
        path: the file or folder.
        rate: frames per second.
        length: number of frames by the header, which may be wrong; None: unknown.
        has_sound: whether there is an audio stream.
        pixel_aspect: width of a pixel over its height, upright.
    """

    path: Path
    rate: Fraction = FOLDER_RATE
    length: int | None = None
    has_sound: bool = False
    pixel_aspect: Fraction = Fraction(1)

    def frames(self) -> Iterator[np.ndarray]:
        """Yield the frames, each (H, W, 3) uint8, RGB, upright, all of one size.

        Raises:
            BrokenVideo: while iterating, at a frame that cannot be read or is of another size.
            UserError: there is no frame.
        """
        size = None
        for number, frame in enumerate(self._read(), 1):
            height, width = frame.shape[:2]
            if size not in (None, (height, width)):
                raise BrokenVideo(
                    f"{self.path}: frame {number} has {width} x {height} pixels, but those before "
                    f"have {size[1]} x {size[0]}: cut it there, or bring all frames to one size"
                )
            size = height, width
            yield frame
        if size is None:
            raise UserError(f"{self.path} has no frames: give a video with at least one")

    def _read(self) -> Iterator[np.ndarray]:
        raise NotImplementedError


class FrameFolder(Video):
    """The images directly inside a folder, in the order of the numbers in their names."""

    def __init__(self, path: str | Path, max_pixels: int = MAX_PIXELS) -> None:
        """
        Raises:
            UserError: the folder cannot be read or has no images.
        """
        self.path, self.max_pixels = Path(path), max_pixels
        self.images = [Path(image) for image in Frames.of_folder(path).paths]
        self.length = len(self.images)

    def _read(self) -> Iterator[np.ndarray]:
        for image in self.images:
            try:
                yield read_image(image, max_pixels=self.max_pixels)
            except UserError as error:
                raise BrokenVideo(str(error)) from error


class VideoFile(Video):
    """A file in one of CONTAINERS; its first video stream is read."""

    def __init__(self, path: str | Path, max_pixels: int = MAX_PIXELS) -> None:
        """
        Raises:
            UserError: PyAV is not installed; the file is missing, may not be read, is no video or
                has too many pixels.
        """
        self.path, self.max_pixels = Path(path), max_pixels
        with self._opened() as (container, stream):
            self.length = stream.frames or None
            self.has_sound = bool(container.streams.audio)
            self.pixel_aspect = stream.sample_aspect_ratio or Fraction(1)
            self.rate = self._rate(container, stream)
        if self.pixel_aspect != 1 and self._is_rotated():
            self.pixel_aspect = 1 / self.pixel_aspect

    @contextmanager
    def _opened(self) -> Iterator[tuple[Any, Any]]:
        av = load_av()
        try:
            with self.path.open("rb"):  # its errors are clearer than FFmpeg's
                pass
            container = av.open(
                str(self.path),
                options={"format_whitelist": CONTAINERS, "protocol_whitelist": "file"},
                metadata_errors="replace",  # titles in Latin-1
            )
        except av.error.FFmpegError as error:
            raise UserError(
                f"{self.path} cannot be read: it is no video, or is damaged or truncated in the "
                f"list of its frames ({error.strerror})"
            ) from error
        except OSError as error:
            raise UserError(f"{self.path} cannot be read: {error.strerror}") from error
        with container:
            if not container.streams.video:
                raise UserError(f"{self.path} has no frames: it holds no images")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise UserError(
                    f"{self.path} cannot be read: FFmpeg does not know how its frames are coded: "
                    "convert it to H.264"
                )
            self._check_size(stream.codec_context)
            yield container, stream

    def _rate(self, container: Any, stream: Any) -> Fraction:
        """Return frames per second by the header, or by the timestamps if these differ.

        Only the headers of MP4 and its relatives count frames; the others give a nominal rate, from
        which videos with a variable frame rate differ.
        """
        stated = stream.average_rate or stream.guessed_rate or FOLDER_RATE
        stated = stated if 0 < stated <= MAX_RATE else FOLDER_RATE
        if any(name in container.format.name for name in COUNTED):
            return stated
        measured = _measured_rate(container, stream)
        if measured is None or abs(measured / stated - 1) <= RATE_TOLERANCE:
            return stated
        return measured if measured <= MAX_RATE else stated

    def _is_rotated(self) -> bool:
        """Return whether frames are rotated by 90 or 270 degrees."""
        with self._opened() as (container, stream), suppress(load_av().error.FFmpegError):
            for frame in container.decode(stream):
                return _orientation(frame)[0]
        return False

    def _check_size(self, codec: Any) -> None:
        if codec.width * codec.height > self.max_pixels:
            raise UserError(
                f"{self.path} has frames of {codec.width} x {codec.height} pixels, more than the "
                f"limit of {self.max_pixels / 1e6:g} megapixels: make them smaller"
            )
        codec.options = {"max_pixels": str(self.max_pixels)}  # later frames may be larger

    def _read(self) -> Iterator[np.ndarray]:
        av = load_av()
        done, seconds, damaged = 0, 0.0, False
        with self._opened() as (container, stream):
            try:
                for packet in container.demux():
                    damaged |= packet.is_corrupt
                    seconds = max(seconds, _end(packet, container))
                    if packet.stream is not stream:
                        continue
                    for frame in packet.decode():
                        yield _upright(frame)
                        done += 1
            except av.error.FFmpegError as error:
                raise BrokenVideo(self._stops(done, error.strerror)) from error
            except (MemoryError, UnicodeError, ValueError) as error:  # PyAV's, of odd frames
                raise BrokenVideo(self._stops(done, error)) from error
            if damaged or _is_truncated(container, stream, done, seconds):
                raise BrokenVideo(self._stops(done, "a part is missing"))

    def _stops(self, done: int, why: object) -> str:
        return (
            f"{printable(self.path)} is damaged or truncated after {done} frames "
            f"({printable(why)}): replace it"
        )


def open_video(path: str | Path, max_pixels: int = MAX_PIXELS) -> Video:
    """Open a video file, or a folder of frames.

    Args:
        path: of the file or folder.
        max_pixels: videos with larger frames are refused before they are decoded.

    Raises:
        UserError: see :class:`VideoFile` and :class:`FrameFolder`.
    """
    kind = FrameFolder if Path(path).is_dir() else VideoFile
    return kind(path, max_pixels)


class ForwardFrames(Sequence):
    """Frames by index, from a stream that only goes forward; the last few stay in memory.

    A model can read overlapping clips, and a video of any length takes the memory of a clip.
    """

    def __init__(self, frames: Iterable[np.ndarray], length: int, keep: int) -> None:
        """
        Args:
            frames: at least `length`.
            length: number of frames.
            keep: number of the last frames to keep.
        """
        self._frames, self._length = iter(frames), length
        self._kept: deque[np.ndarray] = deque(maxlen=keep)
        self._read = 0

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, number: int) -> np.ndarray:
        """Return frame `number`, (H, W, 3) uint8.

        Raises:
            IndexError: it is beyond the last frame, or no longer kept.
        """
        number = range(self._length)[number]
        while self._read <= number:
            self._kept.append(next(self._frames))
            self._read += 1
        age = self._read - number
        if age > len(self._kept):
            raise IndexError(f"frame {number} is gone: the last {len(self._kept)} are kept")
        return self._kept[-age]


def load_av() -> ModuleType:
    """Import PyAV and return it.

    Raises:
        UserError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise UserError(
            "video files need the package av: pip install 'catrank[video]' (a folder of frames "
            "needs nothing)"
        ) from error
    return av


def _upright(frame: Any) -> np.ndarray:
    """Return a decoded frame, rotated as players show it: (H, W, 3) uint8, RGB."""
    swapped, rows, columns = _orientation(frame)
    pixels = frame.to_ndarray(format="rgb24")
    pixels = pixels.swapaxes(0, 1) if swapped else pixels
    return np.ascontiguousarray(pixels[::rows, ::columns])


def _orientation(frame: Any) -> tuple[bool, int, int]:
    """Return the orientation of a frame by its display matrix.

    The matrix maps x to a x + c y and y to b x + d y. The nearest of the eight combinations of
    quarter turns and flips is taken; the scale is not applied.

    Returns:
        whether rows and columns are swapped, and then the steps (1 or -1) of rows and columns.
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return False, 1, 1
    a, b, _, c, d = (int(value) for value in np.frombuffer(matrix, dtype="=i4")[:5])
    swapped = abs(b) + abs(c) > abs(a) + abs(d)
    down, right = (b, c) if swapped else (d, a)
    return swapped, -1 if down < 0 else 1, -1 if right < 0 else 1


def _measured_rate(container: Any, stream: Any) -> Fraction | None:
    """Return frames per second between the first and last frame; None without timestamps."""
    count, first, last = 0, math.inf, -math.inf
    with suppress(load_av().error.FFmpegError):  # the frames before an error count
        for packet in container.demux(stream):
            time = packet.dts if packet.pts is None else packet.pts
            if time is None or _is_invisible(packet, stream):
                continue
            count, first, last = count + 1, min(first, time), max(last, time)
    if count < 2 or last <= first:
        return None
    return ((count - 1) / ((last - first) * stream.time_base)).limit_denominator(1001)


def _is_invisible(packet: Any, stream: Any) -> bool:
    """Return whether a packet of VP8 is a reference frame that is not shown."""
    return stream.codec_context.name == "vp8" and packet.size > 0 and not bytes(packet)[0] & 0x10


def _end(packet: Any, container: Any) -> float:
    """Return the second at which a packet ends, from the start of the file; 0 if unknown."""
    time = packet.dts if packet.pts is None else packet.pts
    if time is None:
        return 0.0
    begin = (container.start_time or 0) / 1e6
    return float((time + (packet.duration or 0)) * packet.time_base) - begin


def _is_truncated(container: Any, stream: Any, done: int, seconds: float) -> bool:
    """Return whether less was read than the header announces.

    An MP4 file may list frames that it does not show, so its duration decides. An AVI file counts
    frames that repeat the previous one and are not stored: if many are missing, the duration
    decides too.
    """
    counted = stream.frames and "mp4" not in container.format.name
    if counted and done >= SHOWN_FRACTION * stream.frames:
        return False
    last = 1 / stream.average_rate if stream.average_rate else 0  # its duration may be unknown
    return seconds + last + CUT_SECONDS < (container.duration or 0) / 1e6
