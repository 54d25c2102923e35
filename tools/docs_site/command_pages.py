"""The reference of the command line, from the parsers of its words.

PYTHONPATH=tools python -m docs_site.command_pages > commands.md
"""

from collections.abc import Iterator

from catrank.cli import ROOT
from catrank.cli.parsing import Parser
from catrank.cli.word import Group, Word

HEAD = """\
# Commands and options

This page has the help of every word of `catrank`, as `--help` prints it.
[The command line](command_line.md) introduces them.

"""


def words(named: Word | Group, prog: str) -> Iterator[tuple[str, Word | Group]]:
    """Yield every word with the words before it, groups before their words."""
    yield prog, named
    for name, child in named.words.items() if isinstance(named, Group) else ():
        yield from words(child, f"{prog} {name}")


def page() -> str:
    """Return the page, in Markdown."""
    parts = [HEAD]
    for prog, named in words(ROOT, "catrank"):
        help_text = Parser(named, prog).format_help().strip()
        parts.append(f"## {prog}\n\n```text\n{help_text}\n```\n\n")
    return "".join(parts)


if __name__ == "__main__":
    print(page(), end="")
