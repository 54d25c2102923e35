"""Segments pictures with words of your choice, from the command line.

    python demo/demo.py --config-file catseg_d2/vitb_384.yaml \\
        --input picture.jpg folder/ 'holiday/*.png' --vocabulary "sky, tree, my dog" \\
        --output out/ --opts MODEL.WEIGHTS model_final.pth

For each picture NAME the output folder gets NAME_overlay.png, NAME_labels.png (16-bit, class ids)
and NAME_legend.png; vocabulary.json says which class an id is. A picture that cannot be read is
reported at the end and the others are done all the same; the exit code is then 1. A mistake in the
command line, the config or the checkpoint is one sentence and exit code 2.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from files import find_pictures, name_outputs
from predictor import Segmenter
from results import ResultFolder
from tqdm import tqdm

import catseg_d2  # noqa: F401  its config keys and its meta-architecture
import mask2former_rankseg  # noqa: F401  the same
from segcore.config import load_config
from segcore.errors import UserError, exit_on_user_error
from segcore.images import read_image
from segcore.vocabulary import Vocabulary

MOST_BELIEVED = 8  # classes that are printed of a picture


def share(text: str) -> float:
    """A number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line, checked as far as it can be without a look at the files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--config-file", default="catseg_d2/vitb_384.yaml", help="a path, or a packaged config")
    add("--input", nargs="+", required=True, help="pictures, folders, quoted patterns")
    add(
        "--vocabulary",
        help='words: "sky, tree, my dog"; a JSON file; a registered name such as ade20k_150; '
        "left out: the classes of the config",
    )
    add("--output", type=Path, required=True, help="folder for the results")
    add("--overwrite", action="store_true", help="replace results of an earlier run")
    add("--min-score", type=share, default=0.5, help="of objects that are shown, 0 to 1")
    add("--alpha", type=share, default=0.55, help="weight of the colours in the overlay, 0 to 1")
    add("--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE ..., last on the line")
    return parser.parse_args(arguments)


def run(args: argparse.Namespace) -> dict[Path, str]:
    """Segments every picture; returns what went wrong with those that could not be read."""
    names = name_outputs(find_pictures(args.input))
    cfg = load_config(args.config_file, args.opts)
    words = Vocabulary.load(args.vocabulary) if args.vocabulary is not None else None
    segmenter = Segmenter(cfg, words, args.min_score)
    results = ResultFolder(args.output, segmenter.vocabulary, args.overwrite)
    results.prepare(list(names.values()))

    failures = {}
    for picture, name in tqdm(names.items(), desc="segmenting", unit="picture"):
        try:
            image = read_image(picture)
        except UserError as error:
            failures[picture] = str(error)
            continue
        answer = segmenter(image)
        results.write(name, image, answer, args.alpha)
        if answer.category_scores is not None:
            tqdm.write(f"{name}: {believed(answer.category_scores, segmenter.vocabulary)}")
    print(f"{len(names) - len(failures)} of {len(names)} pictures segmented, see {args.output}")
    return failures


def believed(category_scores: Sequence[float], vocabulary: Vocabulary) -> str:
    """The classes that a model with RankSeg takes to be in the picture, the likeliest first."""
    order = sorted(range(len(category_scores)), key=lambda i: -category_scores[i])
    likely = [i for i in order if category_scores[i] >= 0.5]
    names = [f"{vocabulary.names[i]} {category_scores[i]:.0%}" for i in likely[:MOST_BELIEVED]]
    more = f" and {len(likely) - MOST_BELIEVED} more" if len(likely) > MOST_BELIEVED else ""
    return f"RankSeg expects {', '.join(names) or 'none of the classes'}{more}"


def main() -> None:
    args = parse_arguments()
    with exit_on_user_error():
        failures = run(args)
    for message in failures.values():
        print(f"failed: {message}", file=sys.stderr)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
