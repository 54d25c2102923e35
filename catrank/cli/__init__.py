"""The command ``catrank``: one word a task.

``word`` says what a word is, ``parsing`` makes parsers of the words; each word has a module, which
imports what it runs when it runs.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from catrank.cli import (
    data,
    evaluate,
    info,
    label,
    models,
    segment,
    serve,
    train,
    video,
    vocabulary,
)
from catrank.cli.parsing import Parser, parse
from catrank.cli.word import Group, Word
from segcore.errors import exit_on_user_error

ROOT = Group(
    title="segment images and videos over large and open vocabularies",
    words={
        "segment": segment.WORD,
        "video": video.WORD,
        "label": label.WORD,
        "serve": serve.WORD,
        "train": train.WORD,
        "evaluate": evaluate.WORD,
        "data": data.GROUP,
        "models": models.GROUP,
        "vocabulary": vocabulary.GROUP,
        "info": info.WORD,
    },
    examples="""
catrank segment photo.jpg --classes "sky, tree, my dog"
catrank video clip.mp4 --output out.mp4
catrank label photos/ --output labels
catrank data status
catrank train catseg_d2/vitb_384.yaml --num-gpus 4
catrank models list
catrank info
""",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line, by default that of the process; return its exit code."""
    parser = Parser(ROOT, prog="catrank")
    _complete(parser)
    word, known = parse(parser, sys.argv[1:] if arguments is None else arguments)
    if isinstance(word, Group):
        parser.parse_args([*(arguments or sys.argv[1:]), "--help"])
        parser.exit()
    return run(word, known)


def run(word: Word, known: argparse.Namespace) -> int:
    """Run a word and return its exit code; a user error is one line and exits with code 2."""
    with exit_on_user_error(word.interrupted):
        return word.run(known)


def _complete(parser: argparse.ArgumentParser) -> None:
    """Where a shell asks by argcomplete's protocol: print what may follow, and exit."""
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser)
