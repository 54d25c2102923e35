"""Segment images or a video from the command line, with class names of your choice or the model's.

    python demo/demo.py --config-file catseg_d2/vitb_384.yaml \\
        --input image.jpg folder/ 'holiday/*.png' --vocabulary "sky, tree, my dog" \\
        --output out/ --opts MODEL.WEIGHTS model_final.pth
    python demo/demo.py ... --video-input clip.mp4 --output out.mp4 --opts ...

For each image NAME the output folder receives NAME_overlay.png, NAME_labels.png (16 bits: class
ids, or segment ids), NAME_legend.png, NAME_segments.json (panoptic and instance models) and
NAME_categories.json (RankSeg); vocabulary.json lists the class ids. The output of a video is a
video with the predictions drawn on it, or a folder with overlay and label map of each frame.
Unreadable images are reported at the end, the others are segmented, and the exit code is 1. An
error in the command line, the config or the checkpoint is one message and exit code 2. The same
command resumes a run over images that was interrupted.
"""

import catrank.interrupts  # noqa: F401  before all that takes time to load

# isort: split

import argparse
import sys

from catrank import Model, load_config
from catrank.cli.options import fraction, frame_rate, report_failures
from catrank.inputs import find_images
from catrank.runs.images import segment_images
from catrank.runs.videos import check_output, segment_video
from segcore.errors import UserError, exit_on_user_error
from segcore.runtime.files import path_argument
from segcore.runtime.lock import release
from segcore.video_files import open_video
from segcore.vocabulary import Vocabulary


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line, and check what needs no file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--config-file", default="catseg_d2/vitb_384.yaml", help="a path, or a packaged config")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--input", nargs="+", help="images, folders, quoted patterns")
    source.add_argument(
        "--video-input", type=path_argument, help="a video file, or a folder of its frames"
    )
    add(
        "--vocabulary",
        help='class names: "sky, tree, my dog"; a JSON file; a registered name such as ade20k_150; '
        "default: the classes of the config or of its data set",
    )
    add(
        "--output",
        type=path_argument,
        required=True,
        help="folder for the results; for a video also a .mp4 file",
    )
    add("--overwrite", action="store_true", help="replace results of an earlier run")
    add("--min-score", type=fraction, default=0.5, help="least score of an object, 0 to 1")
    add("--alpha", type=fraction, default=0.55, help="weight of the colours in the overlay, 0 to 1")
    add("--frame-rate", type=frame_rate, help="of the output video; default: that of the input")
    add("--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE ..., last on the line")
    return parser.parse_args(arguments)


def load_model(args: argparse.Namespace) -> Model:
    """Load the model of the command line with its vocabulary."""
    cfg = load_config(args.config_file, args.opts)
    vocabulary = Vocabulary.load(args.vocabulary) if args.vocabulary is not None else None
    return Model(cfg, vocabulary, args.min_score)


def run_images(args: argparse.Namespace) -> list[str]:
    """Segment every image; return an error message for each that could not be read."""
    images = find_images(args.input)
    model = load_model(args)
    if model.reads_videos:
        raise UserError(f"{args.config_file} is a video model: give it a video by --video-input")
    return segment_images(model, images, args.output, alpha=args.alpha, overwrite=args.overwrite)


def run_video(args: argparse.Namespace) -> list[str]:
    """Segment a video; return an error message if it could not be read to its end."""
    video = open_video(args.video_input)
    check_output(args.output, args.overwrite)
    rate = args.frame_rate or video.rate
    failure = segment_video(
        load_model(args),
        video,
        args.output,
        rate=rate,
        alpha=args.alpha,
        overwrite=args.overwrite,
    )
    return [failure] if failure else []


def main() -> None:
    args = parse_arguments()
    advice = "" if args.video_input else ": the same command resumes, without --overwrite"
    with exit_on_user_error(advice):
        try:
            failures = run_video(args) if args.video_input else run_images(args)
        finally:
            release()
    sys.exit(report_failures(failures))


if __name__ == "__main__":
    main()
