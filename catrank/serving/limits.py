"""What a request may ask for; whatever is beyond is one error message."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np

from segcore.errors import UserError, printable
from segcore.images import read_header
from segcore.video_files import Video, open_video

NAME_CHARACTERS = 100  # of a file's name in results


class TooLarge(UserError):
    """An upload has more bytes than the limit."""


@dataclass(frozen=True)
class Limits:
    """Limits of a service.

    Attributes:
        pixels: of an image, and of a frame of a video.
        upload_bytes: of a file.
        words: class names of a request.
        word_characters: of a class name.
        frames: of a video.
        queue: requests that wait for the model or are with it.
        kept_bytes: of all uploads that the page keeps, and of all its results.
    """

    pixels: int = 16_000_000
    upload_bytes: int = 64_000_000
    words: int = 1000
    word_characters: int = 100
    frames: int = 500
    queue: int = 16
    kept_bytes: int = 1_000_000_000

    def class_names(self, text: str | None) -> list[str] | None:
        """Return the class names of a text, which commas and line breaks separate; None of a text
        without any.

        A text is never a path or the name of a vocabulary.

        Raises:
            UserError: there are too many, or one is too long.
        """
        text = text or ""
        # Counted before anything is split: a text of a million names costs nothing.
        if len(text) > 2 * self.words * (self.word_characters + 2):
            raise UserError(f"the class names have {len(text)} characters: {self._words_allowed}")
        names = [name.strip() for name in re.split(r"[,\r\n]", text)]
        names = [name for name in names if name]
        if len(names) > self.words:
            raise UserError(f"{len(names)} class names are given: {self._words_allowed}")
        for name in names:
            if len(name) > self.word_characters:
                raise UserError(
                    f"the class name {printable(name, 40)!r} has {len(name)} characters: use at "
                    f"most {self.word_characters}"
                )
        return names or None

    @property
    def _words_allowed(self) -> str:
        return f"use at most {self.words} names of {self.word_characters} characters"

    def check_bytes(self, count: int) -> None:
        """Check the size of an upload.

        Raises:
            TooLarge: it has too many bytes.
        """
        if count > self.upload_bytes:
            raise TooLarge(
                f"the upload has more than {self.upload_bytes / 1e6:g} MB: make it smaller"
            )

    def check_image(self, path: Path) -> tuple[int, int]:
        """Return (height, width) by the header of an image, before anything is decoded.

        Raises:
            UserError: it is no image, or has too many pixels.
        """
        header = read_header(path, max_pixels=self.pixels)
        size = header.height, header.width
        return size if header.orientation < 5 else size[::-1]

    def open_video(self, path: Path) -> Video:
        """Open a video whose frames are counted as they are read.

        Raises:
            UserError: it is no video, or has too many frames or pixels by its header.
        """
        video = open_video(path, self.pixels)
        if video.length is not None:
            self.check_frames(video.length)
        return _CountedVideo(video, self)

    def check_frames(self, count: int) -> None:
        """Check the length of a video.

        Raises:
            UserError: it is too long.
        """
        if count > self.frames:
            raise UserError(f"the video has more than {self.frames} frames: cut a shorter part")


class _CountedVideo(Video):
    """A video that ends with an error message behind the limit, whatever its header says."""

    def __init__(self, video: Video, limits: Limits) -> None:
        self._video, self._limits = video, limits
        self.path, self.rate, self.length = video.path, video.rate, video.length
        self.has_sound, self.pixel_aspect = video.has_sound, video.pixel_aspect

    def _read(self) -> Iterator[np.ndarray]:
        for number, frame in enumerate(self._video.frames(), 1):
            self._limits.check_frames(number)
            yield frame


@dataclass(frozen=True)
class Upload:
    """A file that a client sent.

    Attributes:
        path: where the service put it.
        name: what the client calls it, for results and messages alone; never a path.
    """

    path: Path
    name: str

    @contextmanager
    def named(self) -> Iterator[None]:
        """Replace the path by the client's name in the message of a user error."""
        try:
            yield
        except UserError as error:
            message = str(error).replace(str(self.path), self.name)
            raise type(error)(message) from error


def client_name(name: str | None, default: str = "image") -> str:
    """Return a client's name of a file without folders, printable and short."""
    last = PureWindowsPath(PurePosixPath(name or "").name).name
    # A lone surrogate is half a character; no file format can hold it.
    last = last.encode("utf-8", "replace").decode("utf-8")
    return printable(last, NAME_CHARACTERS) or default
