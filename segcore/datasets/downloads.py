"""How to get the benchmarks that are not on the disk, and the report on all of them."""

import itertools
import json
import textwrap
from collections.abc import Iterator
from functools import cache
from operator import attrgetter
from pathlib import Path

from segcore.datasets.status import Status, all_statuses
from segcore.vocabulary import registered_names, vocabulary_table

DOWNLOADS = Path(__file__).with_name("downloads.json")
WIDTH = 100


@cache
def downloads() -> dict[str, dict]:
    """Return ``download``, ``terms`` and ``prepare`` (a list of commands) of every benchmark."""
    return json.loads(DOWNLOADS.read_text("utf-8"))


def how_to_get(status: Status) -> str:
    """Return what to do for a data set that is missing, in one line."""
    source = downloads()[status.group]
    return f"Download: {source['download']}. Then: {', '.join(source['prepare'])}"


def report(root: Path) -> Iterator[str]:
    """Yield the lines of the report on all registered data sets below ``root``, with a count of
    those that are ready in the end."""
    statuses = all_statuses(root)
    width = max(len(each.name) for each in statuses)
    for group, members in itertools.groupby(statuses, key=attrgetter("group")):
        yield from describe(list(members), title(group), downloads()[group], width)
        yield ""
    ready = sum(each.state == "ready" for each in statuses)
    yield f"{ready} of {len(statuses)} data sets are ready below {root.resolve()}"


def title(group: str) -> str:
    """Return what a benchmark is called: the title of its vocabulary, or the collection's name."""
    return vocabulary_table(group)["title"] if group in registered_names() else group


def describe(members: list[Status], title: str, source: dict, width: int) -> list[str]:
    """Return the lines of a benchmark; how to get it where something is not ready."""
    lines = [title] + [f"  {m.state:7}  {m.name:{width}}  {amount(m)}" for m in members]
    if all(member.state == "ready" for member in members):
        return lines
    rows = [("download", source["download"]), ("terms", source["terms"])]
    rows += [("then", command) for command in source["prepare"]]
    return lines + [
        line
        for label, text in rows
        for line in textwrap.wrap(
            text, WIDTH, initial_indent=f"  {label + ':':10}", subsequent_indent=" " * 12
        )
    ]


def amount(status: Status) -> str:
    """Return how much of a data set there is."""
    if status.lacking:
        more = len(status.lacking) - 1
        return f"there is no {status.lacking[0]}" + (f", nor {more} more" if more else "")
    published = "" if status.published is None else f" of {status.published:,}"
    return f"{status.found:,}{published} {status.unit}"
