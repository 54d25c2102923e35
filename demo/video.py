"""Segment a video: a file or a folder of frames in, a file or a folder of results out."""

import itertools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
from files import name_outputs
from predictor import Prediction, Segmenter
from result_checks import ResultChecks
from results import ResultFolder, regions_of
from tqdm import tqdm
from video_predictor import clip_by_clip, count_frames, frame_by_frame

from segcore.drawing.segments import draw_regions
from segcore.errors import UserError, printable
from segcore.video_files import BrokenVideo, FrameFolder, Video
from segcore.video_files.writing import VideoWriter, check_output_file

Write = Callable[[np.ndarray, Prediction], None]


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
    segmenter: Segmenter,
    video: Video,
    output: Path,
    *,
    rate: Fraction,
    alpha: float,
    overwrite: bool = False,
) -> str | None:
    """Segment a video and write each frame as soon as it is predicted.

    Args:
        segmenter: with an image model or a video model.
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
    length, failure = video.length, None
    if segmenter.reads_videos:  # such models need the number of frames in advance
        length, failure = count_frames(video)
        predictions = clip_by_clip(segmenter, video, length)
    else:
        predictions = frame_by_frame(segmenter, video)
    if _is_file_name(output):
        opened = _file(segmenter, VideoWriter(output, rate, video.pixel_aspect), alpha)
    else:
        results = ResultFolder(output, segmenter.vocabulary, overwrite)
        opened = _folder(results, video, alpha, tell_apart=segmenter.reads_videos)
    done, checks = 0, ResultChecks(segmenter.vocabulary)
    try:
        with opened as write:
            for frame, prediction in tqdm(
                predictions, total=length, desc="segmenting", unit="frame"
            ):
                write(frame, prediction)
                checks.add(prediction)
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
def _file(segmenter: Segmenter, file: VideoWriter, alpha: float) -> Iterator[Write]:
    """Write frames with their predictions drawn on them to a video file."""
    with file as writer:

        def write(frame: np.ndarray, prediction: Prediction) -> None:
            regions = regions_of(
                prediction, segmenter.vocabulary, tell_apart=segmenter.reads_videos
            )
            writer.write(draw_regions(frame, regions, alpha=alpha))

        yield write


@contextmanager
def _folder(
    results: ResultFolder, video: Video, alpha: float, *, tell_apart: bool
) -> Iterator[Write]:
    """Write overlay, label map and segments of every frame, named like it or by its index."""
    results.prepare([])
    names = (f"{number:06d}" for number in itertools.count())
    if isinstance(video, FrameFolder):
        names = iter(name_outputs(video.images).values())

    def write(frame: np.ndarray, prediction: Prediction) -> None:
        results.write_frame(next(names), frame, prediction, alpha, tell_apart=tell_apart)

    yield write
