"""argparse for a tree of words: help that fits a screen, and the nearest word for a wrong one."""

import argparse
import difflib
import re
from collections.abc import Iterable, Sequence
from functools import partial
from typing import NoReturn

from catrank.cli.word import Group, Word

WIDTH, LONGEST_OPTION = 100, 32


class _Help(argparse.RawDescriptionHelpFormatter):
    """Leaves room for the longest word beside its help, which argparse indents without counting."""

    def add_argument(self, action: argparse.Action) -> None:
        super().add_argument(action)
        if isinstance(action, argparse._SubParsersAction):
            self._action_max_length += self._indent_increment


_Formatter = partial(_Help, width=WIDTH, max_help_position=LONGEST_OPTION)


class Parser(argparse.ArgumentParser):
    """A parser of a word, or of a group with parsers of all its words."""

    def __init__(self, word: Word | Group, prog: str, **_: object) -> None:
        self.word = word
        usage = "WORD ..." if isinstance(word, Group) else word.usage
        examples = "".join(f"\n  {line}" for line in word.examples.strip("\n").splitlines())
        super().__init__(
            prog=prog,
            usage=f"{prog} {usage}".rstrip(),
            epilog=f"examples:{examples}" if examples else None,
            formatter_class=_Formatter,
        )
        if isinstance(word, Word):
            word.add_arguments(self)
            return
        children = self.add_subparsers(metavar="WORD", title="words", parser_class=Parser)
        for name, child in word.words.items():
            children.add_parser(name, help=child.title, word=child, prog=f"{prog} {name}")

    def format_help(self) -> str:
        """Return the help; a description that is a function is called for it."""
        text = self.word.description if isinstance(self.word, Word) else ""
        title = self.word.title
        self.description = (
            text if isinstance(text, str) else text()
        ) or f"{title[0].upper()}{title[1:]}."
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        """Print one line on what is wrong and exit with code 2."""
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


def parse(parser: Parser, arguments: Sequence[str]) -> tuple[Word | Group, argparse.Namespace]:
    """Parse a command line; exit with code 2 and the nearest word or option where one is wrong.

    Returns:
        what the words at the beginning name, and the arguments of it.
    """
    named, prog = parser.word, parser.prog
    for argument in arguments:
        if not isinstance(named, Group) or argument.startswith("-"):
            break
        if argument not in named.words:
            hint = _near(argument, named.words) or f"; there are {', '.join(named.words)}"
            parser.exit(2, f"error: {prog} has no word {argument[:80]!r}{hint}\n")
        named, prog = named.words[argument], f"{prog} {argument}"
    known, unknown = parser.parse_known_args(list(arguments))
    if "opts" in known and not any(re.match(r"-[^\d.]", word) for word in unknown):
        known.opts += unknown  # KEY VALUE pairs that follow an option
    elif unknown:
        option = unknown[0].partition("=")[0][:80]
        options = re.findall(r"(?<![\w-])--[a-z][\w-]*", Parser(named, prog).format_help())
        parser.exit(
            2,
            f"error: {prog} does not take {option!r}{_near(option, options)} (see {prog} --help)\n",
        )
    return named, known


def _near(text: str, known: Iterable[str]) -> str:
    """The nearest names as the end of an error message, if any are near."""
    found = difflib.get_close_matches(text, list(dict.fromkeys(known)), n=2, cutoff=0.5)
    return f"; did you mean {' or '.join(found)}?" if found else ""
