"""Videos in the demo: from a file or a folder of frames to a file or a folder of results."""

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
from remarks import Remarks
from results import ResultFolder, regions_of
from tqdm import tqdm
from video_predictor import clip_by_clip, count_frames, frame_by_frame

from segcore.drawing.segments import draw_regions
from segcore.errors import UserError, printable
from segcore.video_files import BrokenVideo, FrameFolder, Video
from segcore.video_files.writing import VideoWriter, check_output_file

Write = Callable[[np.ndarray, Prediction], None]


def check_output(output: Path, overwrite: bool) -> None:
    """What can be known before a model is loaded.

    Raises:
        UserError: videos are not written as such files, or there are results already.
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
    """Segments a video and writes each frame as soon as it is known.

    Args:
        segmenter: of images or of videos.
        video: what to segment.
        output: a file, or a folder for overlay and label map of every frame.
        rate: frames a second of a file.
        alpha: weight of the colours.
        overwrite: whether files of an earlier run may be replaced.

    Returns:
        what went wrong on the way, None if nothing; what was read before is written.

    Raises:
        UserError: no frame can be read, or the output cannot be written.
    """
    length, failure = video.length, None
    if segmenter.reads_videos:  # such models want to know the number of frames before
        length, failure = count_frames(video)
        predictions = clip_by_clip(segmenter, video, length)
    else:
        predictions = frame_by_frame(segmenter, video)
    if _is_file_name(output):
        opened = _file(segmenter, VideoWriter(output, rate, video.pixel_aspect), alpha)
    else:
        results = ResultFolder(output, segmenter.vocabulary, overwrite)
        opened = _folder(results, video, alpha, tell_apart=segmenter.reads_videos)
    done, remarks = 0, Remarks(segmenter.vocabulary)
    try:
        with opened as write:
            for frame, prediction in tqdm(
                predictions, total=length, desc="segmenting", unit="frame"
            ):
                write(frame, prediction)
                remarks.add(prediction)
                done += 1
    except BrokenVideo as error:
        if not done:
            raise
        failure = error
    sound = "; its sound is not kept" if video.has_sound else ""
    for line in remarks.lines():
        print(f"remark: {line}", file=sys.stderr)
    print(f"{done} frames of {printable(video.path)} segmented, see {printable(output)}{sound}")
    return None if failure is None else str(failure)


def _is_file_name(output: Path) -> bool:
    """Whether results go into one video file: a folder has no ending, or is there already."""
    return bool(output.suffix) and not output.is_dir()


@contextmanager
def _file(segmenter: Segmenter, file: VideoWriter, alpha: float) -> Iterator[Write]:
    """Frames with colours and names on them, as a video file."""
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
    """Overlay, label map and segments of every frame, named like it or by its number from 0."""
    results.prepare([])
    names = (f"{number:06d}" for number in itertools.count())
    if isinstance(video, FrameFolder):
        names = iter(name_outputs(video.images).values())

    def write(frame: np.ndarray, prediction: Prediction) -> None:
        results.write_frame(next(names), frame, prediction, alpha, tell_apart=tell_apart)

    yield write
