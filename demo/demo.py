"""Segments images or a video from the command line, with your words or a model's own classes.

    python demo/demo.py --config-file catseg_d2/vitb_384.yaml \\
        --input image.jpg folder/ 'holiday/*.png' --vocabulary "sky, tree, my dog" \\
        --output out/ --opts MODEL.WEIGHTS model_final.pth
    python demo/demo.py ... --video-input clip.mp4 --output out.mp4 --opts ...

For each image NAME the output folder gets NAME_overlay.png, NAME_labels.png (16-bit: class ids,
or numbers of segments), NAME_legend.png and, where the model tells segments or objects apart,
NAME_segments.json, with RankSeg NAME_categories.json; vocabulary.json says which class an id is. A
video becomes a video with colours and names on it, or a folder with overlay and label map of each
frame. What cannot be read is reported at the end and the rest is done all the same; the exit code
is then 1. An error in the command line, the config or the checkpoint is one sentence and exit code
2. Images go on where the same command was interrupted.
"""

import catrank.interrupts  # noqa: F401  before all that takes time to load

# isort: split

import argparse
import sys
from collections.abc import Sequence
from fractions import Fraction

from files import find_images, name_outputs
from predictor import Segmenter
from remarks import Remarks, blank_color
from results import ResultFolder
from resuming import Progress, settings_hash
from tqdm import tqdm
from video import check_output, segment_video

from catrank import load_config
from segcore.errors import MESSAGE_CHARACTERS, UserError, exit_on_user_error, printable
from segcore.images import read_image
from segcore.runtime.files import path_argument
from segcore.runtime.lock import hold, release
from segcore.video_files import open_video
from segcore.vocabulary import Vocabulary

MOST_BELIEVED = 8  # classes that are printed of an image


def share(text: str) -> float:
    """A number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def frame_rate(text: str) -> Fraction:
    """A number such as 25 or 30000/1001, above 0 and at most 1000."""
    try:
        value = Fraction(text)
    except (ValueError, ZeroDivisionError):
        value = Fraction(0)
    if not 0 < value <= 1000:
        raise argparse.ArgumentTypeError(f"{text} is no rate such as 25 or 30000/1001")
    return value


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line, checked as far as it can be without a look at the files."""
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
        help='words: "sky, tree, my dog"; a JSON file; a registered name such as ade20k_150; '
        "left out: the classes of the config or of its data set",
    )
    add(
        "--output",
        type=path_argument,
        required=True,
        help="folder for the results; a video also: .mp4",
    )
    add("--overwrite", action="store_true", help="replace results of an earlier run")
    add("--min-score", type=share, default=0.5, help="of objects that are shown, 0 to 1")
    add("--alpha", type=share, default=0.55, help="weight of the colours in the overlay, 0 to 1")
    add("--frame-rate", type=frame_rate, help="of the video written; left out: that of the input")
    add("--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE ..., last on the line")
    return parser.parse_args(arguments)


def load_segmenter(args: argparse.Namespace) -> Segmenter:
    """The model of the command line with its words."""
    cfg = load_config(args.config_file, args.opts)
    words = Vocabulary.load(args.vocabulary) if args.vocabulary is not None else None
    return Segmenter(cfg, words, args.min_score)


def run_images(args: argparse.Namespace) -> list[str]:
    """Segments every image; returns what went wrong with those that could not be read."""
    names = name_outputs(find_images(args.input))
    segmenter = load_segmenter(args)
    if segmenter.reads_videos:
        raise UserError(f"{args.config_file} is a model of videos: give it one by --video-input")
    hold(args.output, "--output")
    results = ResultFolder(args.output, segmenter.vocabulary, args.overwrite)
    progress = Progress(args.output, settings_hash(segmenter, args.alpha))
    if args.overwrite:
        progress.forget()
    results.prepare([name for name in names.values() if name not in progress.names])
    progress.begin(names)

    failures, remarks = [], Remarks(segmenter.vocabulary)
    for path, name in tqdm(names.items(), desc="segmenting", unit="image"):
        if progress.holds(name, path) and results.hold(name):
            continue
        try:
            image = read_image(path)
        except UserError as error:
            failures.append(str(error))
            continue
        if color := blank_color(image):
            tqdm.write(f"remark: {printable(path)} is all {color}", file=sys.stderr)
        prediction = segmenter(image)
        remarks.add(prediction)
        results.write(name, image, prediction, args.alpha)
        progress.add(name, path)
        if prediction.category_scores is not None:
            tqdm.write(
                f"{printable(name)}: {believed(prediction.category_scores, segmenter.vocabulary)}"
            )
    progress.finish()
    for line in remarks.lines():
        print(f"remark: {line}", file=sys.stderr)
    count = f"{len(names) - len(failures)} of {len(names)}"
    print(f"{count} images segmented, see {printable(args.output)}")
    return failures


def run_video(args: argparse.Namespace) -> list[str]:
    """Segments a video; returns what went wrong on the way."""
    video = open_video(args.video_input)
    check_output(args.output, args.overwrite)
    rate = args.frame_rate or video.rate
    failure = segment_video(
        load_segmenter(args),
        video,
        args.output,
        rate=rate,
        alpha=args.alpha,
        overwrite=args.overwrite,
    )
    return [failure] if failure else []


def believed(category_scores: Sequence[float], vocabulary: Vocabulary) -> str:
    """The classes that a model with RankSeg takes to be in the image, the likeliest first."""
    order = sorted(range(len(category_scores)), key=lambda i: -category_scores[i])
    likely = [i for i in order if category_scores[i] >= 0.5]
    names = [f"{vocabulary.names[i]} {category_scores[i]:.0%}" for i in likely[:MOST_BELIEVED]]
    more = f" and {len(likely) - MOST_BELIEVED} more" if len(likely) > MOST_BELIEVED else ""
    return f"RankSeg expects {', '.join(names) or 'none of the classes'}{more}"


def main() -> None:
    args = parse_arguments()
    after = "" if args.video_input else ": the same command goes on, without --overwrite"
    with exit_on_user_error(after):
        try:
            failures = run_video(args) if args.video_input else run_images(args)
        finally:
            release()
    for message in failures:
        print(f"failed: {printable(message, MESSAGE_CHARACTERS)}", file=sys.stderr)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
