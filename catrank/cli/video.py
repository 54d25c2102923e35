"""``catrank video``: videos."""

import argparse

from catrank.cli.options import (
    add_model_options,
    add_overlay_options,
    frame_rate,
    load_model,
    report_failures,
)
from catrank.cli.word import Word

VIDEO = """\
Segment a video: a file, or a folder of its frames.

The output is a video file with the predictions drawn on it, or a folder with overlay and label map
of each frame. A video model gives an object the same id in all frames; an image model segments
each frame alone. A video that breaks off is written up to there, with exit code 1."""


def _arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("input", metavar="INPUT", help="a video file, or a folder of frames")
    add("--output", metavar="PATH", help="an .mp4 file or a folder (NAME_segmented.mp4)")
    add("--frame-rate", type=frame_rate, metavar="R", help="such as 25 or 30000/1001 (the input's)")
    add_overlay_options(parser)
    add_model_options(parser)


def _run(args: argparse.Namespace) -> int:
    from pathlib import Path

    from catrank.runs.videos import check_output, segment_video
    from segcore.runtime.files import user_path
    from segcore.video_files import open_video

    path = user_path(args.input)
    output = user_path(args.output) if args.output else Path(f"{path.stem}_segmented.mp4")
    video = open_video(path)
    check_output(output, args.overwrite)
    failure = segment_video(
        load_model(args),
        video,
        output,
        rate=args.frame_rate or video.rate,
        alpha=args.alpha,
        overwrite=args.overwrite,
    )
    return report_failures([failure] if failure else [])


WORD = Word(
    title="segment a video",
    run=_run,
    add_arguments=_arguments,
    usage="INPUT [options] [--opts KEY VALUE ...]",
    description=VIDEO,
    examples="""
catrank video clip.mp4 --classes "road, car, person" --output out.mp4
catrank video frames/ --model scenes-60-video-instance --output out/
""",
)
