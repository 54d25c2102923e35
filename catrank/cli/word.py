"""What a word of the command line is: its arguments, its help and what it runs."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass


def _no_arguments(parser: argparse.ArgumentParser) -> None:
    pass


@dataclass(frozen=True)
class Word:
    """One task of ``catrank``.

    The modules that define words import nothing heavy: help and completion need all of them.

    Attributes:
        title: what it does, in one line.
        run: does it; gets the parsed arguments and returns the exit code.
        add_arguments: adds its arguments to a parser.
        usage: what follows the word in the line of usage.
        description: what the help says, or a function that returns that, which may import more.
        examples: command lines at the end of the help.
        interrupted: what follows "interrupted", such as ": the same command goes on".
    """

    title: str
    run: Callable[[argparse.Namespace], int]
    add_arguments: Callable[[argparse.ArgumentParser], None] = _no_arguments
    usage: str = "[options]"
    description: str | Callable[[], str] = ""
    examples: str = ""
    interrupted: str = ""


@dataclass(frozen=True)
class Group:
    """Words behind a word, such as ``catrank data check``."""

    title: str
    words: "dict[str, Word | Group]"
    examples: str = ""
