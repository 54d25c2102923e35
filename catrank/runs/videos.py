"""Segment a video: a file or a folder of frames in, a file or a folder of results out."""

import itertools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
from tqdm import tqdm

from catrank import Model, Result
from catrank.exports.folder import ResultFolder
from catrank.inputs import name_outputs
from catrank.runs.checks import ResultChecks
from segcore.errors import UserError, printable
from segcore.video_files import BrokenVideo, FrameFolder, Video
from segcore.video_files.writing import VideoWriter, check_output_file

Write = Callable[[Result], None]


def check_output(output: Path, overwrite: bool) -> None:
    """Check the output before a model is loaded.

    Raises:
        UserError: videos are not written in this format, or results exist already.
    """
    if _is_file_name(output):
        check_output_file(output)
        present = output if os.path.lexists(output) else None
    else:
        present = next(output.glob("*_labels.png"), None)
    if present and not overwrite:
        raise UserError(f"{present} is there already; give another --output, or --overwrite")


def segment_video(
    model: Model,
    video: Video,
    output: Path,
    *,
    rate: Fraction,
    alpha: float,
    overwrite: bool = False,
) -> str | None:
    """Segment a video and write each frame as soon as it is predicted.

    Args:
        model: of images or of videos.
        video: to segment.
        output: a file, or a folder for overlay and label map of every frame.
        rate: frames per second of an output file.
        alpha: weight of the colours, 0 to 1.
        overwrite: whether files of an earlier run may be replaced.

    Returns:
        the error message if the video could not be read to its end (the frames before it are
        written), else None.

    Raises:
        UserError: no frame can be read, or the output cannot be written.
    """
    failure = None
    if _is_file_name(output):
        opened = _file(VideoWriter(output, rate, video.pixel_aspect), alpha)
    else:
        opened = _folder(ResultFolder(output, model.vocabulary, overwrite), video, alpha)
    done, checks = 0, ResultChecks(model.vocabulary)
    try:
        with opened as write:
            results = model.segment_video(video)
            for result in tqdm(results, total=video.length, desc="segmenting", unit="frame"):
                write(result)
                checks.add(result)
                done += 1
    except BrokenVideo as error:
        if not done:
            raise
        failure = error
    audio = "; its audio is not copied" if video.has_sound else ""
    for line in checks.warnings():
        print(f"warning: {line}", file=sys.stderr)
    print(f"{done} frames of {printable(video.path)} segmented, see {printable(output)}{audio}")
    return None if failure is None else str(failure)


def _is_file_name(output: Path) -> bool:
    """Whether the output is one video file: a path with an extension that is no folder."""
    return bool(output.suffix) and not output.is_dir()


@contextmanager
def _file(file: VideoWriter, alpha: float) -> Iterator[Write]:
    """Write frames with their predictions drawn on them to a video file."""
    with file as writer:
        yield lambda result: writer.write(np.asarray(result.overlay(alpha=alpha)))


@contextmanager
def _folder(results: ResultFolder, video: Video, alpha: float) -> Iterator[Write]:
    """Write overlay, label map and segments of every frame, named like it or by its index."""
    results.prepare([])
    names: Iterator[str] = (f"{number:06d}" for number in itertools.count())
    if isinstance(video, FrameFolder):
        names = iter(name_outputs(video.images).values())
    yield lambda result: results.write_frame(next(names), result, alpha)
