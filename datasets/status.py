#!/usr/bin/env python3
"""List the data sets that are ready, and how to get those that are not.

    python datasets/status.py

counts files below $DETECTRON2_DATASETS (or "datasets", or --root) and opens no image: the preparing
scripts check the contents. The states:

    ready      all images or videos of the benchmark and their annotations are there;
    other      there are fewer, or more: scores are not comparable with published ones;
    missing    there are none, or a file or folder is missing.
"""

import catrank.interrupts  # noqa: F401  before all that takes time to load

# isort: split

import argparse
import itertools
import json
import textwrap
from operator import attrgetter
from pathlib import Path

from segcore.datasets.builtin import data_root
from segcore.datasets.status import Status, all_statuses
from segcore.errors import exit_on_user_error
from segcore.runtime.files import path_argument
from segcore.vocabulary import registered_names, vocabulary_table

DOWNLOADS = Path(__file__).with_name("downloads.json")
WIDTH = 100


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=path_argument, default=data_root())
    root = parser.parse_args().root
    downloads = json.loads(DOWNLOADS.read_text("utf-8"))
    statuses = all_statuses(root)
    width = max(len(each.name) for each in statuses)
    for group, members in itertools.groupby(statuses, key=attrgetter("group")):
        print("\n".join(describe(list(members), title(group), downloads[group], width)) + "\n")
    ready = sum(each.state == "ready" for each in statuses)
    print(f"{ready} of {len(statuses)} data sets are ready below {root.resolve()}")


def title(group: str) -> str:
    """Return the title of a benchmark: that of its vocabulary, or the name of a collection."""
    return vocabulary_table(group)["title"] if group in registered_names() else group


def describe(members: list[Status], title: str, source: dict, width: int) -> list[str]:
    """Return the lines of a benchmark, with how to get it if something is not ready."""
    lines = [title] + [f"  {m.state:7}  {m.name:{width}}  {amount(m)}" for m in members]
    if all(member.state == "ready" for member in members):
        return lines
    rows = [("download", source["download"]), ("terms", source["terms"])]
    rows += [("then", f"python {command}") for command in source["prepare"]]
    return lines + [
        line
        for label, text in rows
        for line in textwrap.wrap(
            text, WIDTH, initial_indent=f"  {label + ':':10}", subsequent_indent=" " * 12
        )
    ]


def amount(status: Status) -> str:
    """Return the amount of a data set that is there."""
    if status.lacking:
        more = len(status.lacking) - 1
        return f"there is no {status.lacking[0]}" + (f", nor {more} more" if more else "")
    published = "" if status.published is None else f" of {status.published:,}"
    return f"{status.found:,}{published} {status.unit}"


if __name__ == "__main__":
    with exit_on_user_error():
        main()
