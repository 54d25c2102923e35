"""Videos as streams of images: files, by PyAV, and folders of frames.

One frame is in memory at a time. The size in the header is looked at before anything is decoded,
only containers of video are opened (a playlist could name other files), and whatever is wrong with
a file becomes one sentence that names it.
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
FOLDER_RATE = Fraction(25)  # frames a second of a folder, which does not say
CUT_SECONDS = 0.2  # a file that ends earlier than it announces by more than this was cut off
SHOWN_SHARE = 0.9  # of the frames that a header counts; with fewer the file was cut off
MAX_RATE = 1000  # frames a second; headers that say more are wrong
RATE_TOLERANCE = 0.02  # timestamps are rounded, and may agree with the header so far
COUNTED = ("mov", "mp4")  # containers whose header gives the average rate


class BrokenVideo(UserError):
    """From here on a video cannot be read. The frames before are good."""


class Video:
    """Frames that can be read from the first to the last, again and again.

    Attributes:
        path: the file or folder.
        rate: frames a second.
        length: number of frames, as the header tells it: it may be wrong; None: it does not say.
        has_sound: whether there is sound beside the images.
        pixel_aspect: width of a pixel over its height, upright.
    """

    path: Path
    rate: Fraction = FOLDER_RATE
    length: int | None = None
    has_sound: bool = False
    pixel_aspect: Fraction = Fraction(1)

    def frames(self) -> Iterator[np.ndarray]:
        """The frames, each (H, W, 3) uint8, RGB, upright, all of one size.

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
    """A file in one of CONTAINERS; its first track of images counts."""

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
        if self.pixel_aspect != 1 and self._lies():
            self.pixel_aspect = 1 / self.pixel_aspect

    @contextmanager
    def _opened(self) -> Iterator[tuple[Any, Any]]:
        av = load_av()
        try:
            with self.path.open("rb"):  # says what is wrong better than FFmpeg
                pass
            container = av.open(
                str(self.path),
                options={"format_whitelist": CONTAINERS, "protocol_whitelist": "file"},
                metadata_errors="replace",  # titles in Latin-1
            )
        except av.error.FFmpegError as error:
            raise UserError(
                f"{self.path} cannot be read: it is no video, or is damaged or cut off where its "
                f"frames are listed ({error.strerror})"
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
        """Frames a second: by the header, or by the timestamps where these say another rate.

        Only the headers of MP4 and its kin count frames; the others name a nominal rate, from which
        videos of varying rate differ.
        """
        said = stream.average_rate or stream.guessed_rate or FOLDER_RATE
        said = said if 0 < said <= MAX_RATE else FOLDER_RATE
        if any(name in container.format.name for name in COUNTED):
            return said
        measured = _measured_rate(container, stream)
        if measured is None or abs(measured / said - 1) <= RATE_TOLERANCE:
            return said
        return measured if measured <= MAX_RATE else said

    def _lies(self) -> bool:
        """Whether frames are turned by a quarter."""
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
        codec.options = {"max_pixels": str(self.max_pixels)}  # of frames that grow on the way, too

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
            if damaged or _is_cut_off(container, stream, done, seconds):
                raise BrokenVideo(self._stops(done, "a part is missing"))

    def _stops(self, done: int, why: object) -> str:
        return (
            f"{printable(self.path)} is damaged or cut off after {done} frames ({printable(why)}): "
            "replace it"
        )


def open_video(path: str | Path, max_pixels: int = MAX_PIXELS) -> Video:
    """A video file, or a folder of frames.

    Args:
        path: what to open.
        max_pixels: videos with larger frames are refused before they are decoded.

    Raises:
        UserError: see :class:`VideoFile` and :class:`FrameFolder`.
    """
    kind = FrameFolder if Path(path).is_dir() else VideoFile
    return kind(path, max_pixels)


class ForwardFrames(Sequence):
    """Frames by number, out of a stream that only goes forward; the last few stay in memory.

    So a model may look at clips that overlap, and a video of any length takes the memory of a clip.
    """

    def __init__(self, frames: Iterable[np.ndarray], length: int, keep: int) -> None:
        """
        Args:
            frames: at least `length` of them.
            length: the number of frames to give.
            keep: how many of those that were read last stay.
        """
        self._frames, self._length = iter(frames), length
        self._kept: deque[np.ndarray] = deque(maxlen=keep)
        self._read = 0

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, number: int) -> np.ndarray:
        """Frame `number`, (H, W, 3) uint8.

        Raises:
            IndexError: it is beyond the last one, or was given up already.
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
    """PyAV.

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
    """A decoded frame, turned as players turn it: (H, W, 3) uint8, RGB."""
    swapped, rows, columns = _orientation(frame)
    pixels = frame.to_ndarray(format="rgb24")
    pixels = pixels.swapaxes(0, 1) if swapped else pixels
    return np.ascontiguousarray(pixels[::rows, ::columns])


def _orientation(frame: Any) -> tuple[bool, int, int]:
    """Return how a frame is shown, by its display matrix.

    The matrix maps x to a x + c y and y to b x + d y. Of these the nearest of the eight ways of
    turning by quarters and mirroring is taken; its scale is not applied.

    Returns:
        whether rows and columns change places, and the steps (1 or -1) of the rows and columns
        after that.
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return False, 1, 1
    a, b, _, c, d = (int(value) for value in np.frombuffer(matrix, dtype="=i4")[:5])
    swapped = abs(b) + abs(c) > abs(a) + abs(d)
    down, right = (b, c) if swapped else (d, a)
    return swapped, -1 if down < 0 else 1, -1 if right < 0 else 1


def _measured_rate(container: Any, stream: Any) -> Fraction | None:
    """Frames a second between the first and the last one; None: the timestamps do not say."""
    count, first, last = 0, math.inf, -math.inf
    with suppress(load_av().error.FFmpegError):  # the frames before a fault count
        for packet in container.demux(stream):
            time = packet.dts if packet.pts is None else packet.pts
            if time is None or _is_invisible(packet, stream):
                continue
            count, first, last = count + 1, min(first, time), max(last, time)
    if count < 2 or last <= first:
        return None
    return ((count - 1) / ((last - first) * stream.time_base)).limit_denominator(1001)


def _is_invisible(packet: Any, stream: Any) -> bool:
    """Whether a packet of VP8 is a frame that others refer to only."""
    return stream.codec_context.name == "vp8" and packet.size > 0 and not bytes(packet)[0] & 0x10


def _end(packet: Any, container: Any) -> float:
    """Second at which a packet ends, from the beginning of the file; 0 where it does not say."""
    time = packet.dts if packet.pts is None else packet.pts
    if time is None:
        return 0.0
    begin = (container.start_time or 0) / 1e6
    return float((time + (packet.duration or 0)) * packet.time_base) - begin


def _is_cut_off(container: Any, stream: Any, done: int, seconds: float) -> bool:
    """Whether less was read than the header announces.

    An MP4 file may list frames that it does not show, so that its duration counts; an AVI file
    counts frames that repeat the one before and are not stored: where many are missing, whether
    those that are there reach its end.
    """
    counted = stream.frames and "mp4" not in container.format.name
    if counted and done >= SHOWN_SHARE * stream.frames:
        return False
    last = 1 / stream.average_rate if stream.average_rate else 0  # its end may not be told
    return seconds + last + CUT_SECONDS < (container.duration or 0) / 1e6
