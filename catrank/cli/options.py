"""Options that several words take, and what they stand for."""

import argparse
import sys
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from catrank.defaults import FIXED_CLASSES, OPEN_VOCABULARY, default_model

if TYPE_CHECKING:
    from catrank.model import Model


def fraction(text: str) -> float:
    """Parse a number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def frame_rate(text: str) -> Fraction:
    """Parse frames per second, such as 25 or 30000/1001: above 0 and at most 1000."""
    try:
        value = Fraction(text)
    except (ValueError, ZeroDivisionError):
        value = Fraction(0)
    if not 0 < value <= 1000:
        raise argparse.ArgumentTypeError(f"{text} is no frame rate such as 25 or 30000/1001")
    return value


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of :func:`load_model`."""
    add = parser.add_argument
    add("--model", metavar="M", help="a name of catrank models list, a config or a checkpoint "
        f"({FIXED_CLASSES}; with class names {OPEN_VOCABULARY})")  # fmt: skip
    add("--config", metavar="C", help="of a checkpoint that does not say its own")
    classes = parser.add_mutually_exclusive_group()
    classes.add_argument("--classes", metavar="A,B", help='class names: "sky, tree, my dog"')
    classes.add_argument("--vocabulary", metavar="V", help="a JSON file or a registered name")
    add("--device", default="auto", metavar="D", help="cpu, cuda, cuda:1 (a GPU, if there is one)")
    add("--min-score", type=fraction, default=0.5, metavar="X", help="of objects, 0 to 1 (0.5)")
    add("--keep", metavar="K", help="classes kept for an image: 32, above 0.05, 32,0.05 or all")
    add("--ranking", metavar="FILE", help="a rank adapter, for a CAT-Seg without one")
    add("--opts", nargs=argparse.REMAINDER, default=[], metavar="KEY VALUE", help="of the config; "
        "last on the line")  # fmt: skip


def add_overlay_options(parser: argparse.ArgumentParser) -> None:
    """Add options of results that are drawn; before those of the model, whose last is the last."""
    add = parser.add_argument
    add("--alpha", type=fraction, default=0.55, metavar="X", help="weight of colours (0.55)")
    add("--overwrite", action="store_true", help="replace results of an earlier run")


def load_model(args: argparse.Namespace) -> "Model":
    """Load the model that the options name, and print which it is.

    Raises:
        UserError: as ``catrank.load``.
    """
    from catrank.model import load
    from segcore.errors import printable

    named = model_arguments(args)
    model = load(**named)
    because = args.model is None and args.config is None
    note = ", because --model names none" if because else ""
    print(f"model: {printable(named['model'])}{note} ({model.describe()})", flush=True)
    return model


def model_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of ``catrank.load`` that the options stand for.

    Raises:
        UserError: ``--classes`` or ``--keep`` cannot be used.
    """
    from segcore.errors import UserError
    from segcore.rankseg.dial import ClassesKept

    classes = args.vocabulary
    if args.classes is not None:
        classes = [name.strip() for name in args.classes.split(",") if name.strip()]
        if not classes:
            raise UserError("--classes names no class: write names with commas: 'sky, tree'")
    name = args.model
    if name is None and args.config is None:
        name = default_model(with_class_names=classes is not None)
    return {
        "model": name,
        "config": args.config,
        "classes": classes,
        "device": args.device,
        "min_score": args.min_score,
        "classes_kept": None if args.keep is None else ClassesKept.parse(args.keep, "--keep"),
        "ranking": args.ranking,
        "opts": args.opts,
    }


def report_failures(failures: Sequence[str]) -> int:
    """Print what could not be read, and return the exit code."""
    from segcore.errors import MESSAGE_CHARACTERS, printable

    for message in failures:
        print(f"failed: {printable(message, MESSAGE_CHARACTERS)}", file=sys.stderr)
    return 1 if failures else 0
