#!/usr/bin/env python3
"""The page of the published weights, as MODEL_ZOO.md holds it.

    python tools/model_zoo.py > MODEL_ZOO.md

Files and results are those of configs/published.json; where they come from, under which licence,
and what was compared here, of configs/releases.json.
"""

import catrank.interrupts  # noqa: F401  before all that takes time to load

# isort: split

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from config_index import CONFIGS, backbone, load_published, published, table_row, task

from segcore.errors import UserError, exit_on_user_error

RELEASES = CONFIGS / "releases.json"

HEADER = """\
# Published weights

Every checkpoint of CAT-Seg, Mask2Former and RankSeg that loads here. None travels with this
repository: each comes from its authors, under their terms, and is used as it is:

    python train_net.py --config-file <config> --eval-only MODEL.WEIGHTS <file>

"Published" is what the authors report, in percent; it was not measured here, since the data sets
and the files are not at hand. "Verified here" says what was:

- *outputs*: with the same numbers as weights, the authors' code and this one agree;
- *keys*: name and shape of every weight are those of the authors' model;
- *built*: the config builds the model that its authors describe, and nothing was compared.

Loading is strict whatever the column says: a file that does not fit a config key by key is refused
in one sentence. Outputs were compared, besides, of smaller models that have no published file:
Swin-T with RankSeg, a panoptic R50 with RankSeg, and R50 on videos, semantic and by instance.

`python tools/model_zoo.py > MODEL_ZOO.md` writes this page.
"""
COLUMNS = ("file", "config", "task", "backbone", "published", "verified here")


def zoo() -> str:
    """The whole page."""
    return "\n".join([HEADER, *_lines()]).rstrip("\n") + "\n"


def releases() -> dict:
    """``releases``, from where and under which licence, and ``verified``, configs by evidence."""
    return json.loads(RELEASES.read_text())


def _lines() -> Iterator[str]:
    facts, files = releases(), published()
    for release in facts["releases"]:
        yield f"## {release['title']}\n"
        yield f"- From: <{release['repository']}>. {release['get']}"
        yield f"- Licence of the weights: {release['licence']}\n"
        yield table_row(COLUMNS)
        yield table_row("---" for _ in COLUMNS)
        for name, entry in files.items():
            if entry["weights"] and release_of(entry, facts) is release:
                yield table_row(cells(name, entry, facts["verified"]))
        yield ""


def release_of(entry: dict, facts: dict) -> dict:
    """Where the weights of an experiment come from."""
    for release in facts["releases"]:
        if entry["source"].startswith(release["source"]):
            return release
    raise UserError(f"{RELEASES} names no release for {entry['source']!r}: add it")


def cells(name: str, entry: dict, verified: dict[str, list[str]]) -> list[str]:
    """The cells of one file, in the order of ``COLUMNS``."""
    cfg, path = load_published(name), Path(name)
    return [
        f"`{entry['weights']}`",
        f"[{path.parent.as_posix().replace('/swin', '')}/{path.stem}](configs/{name})",
        task(cfg),
        backbone(cfg) + (" (IN-22k)" if "IN21k" in name else ""),
        ", ".join(f"{metric} {value}" for metric, value in entry["results"].items()) or "-",
        ", ".join(kind for kind in ("keys", "outputs") if name in verified[kind]) or "built",
    ]


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    print(zoo(), end="")


if __name__ == "__main__":
    with exit_on_user_error():
        main()
