"""The reference of all config keys, from the comments where they are added.

PYTHONPATH=tools python -m docs_site.config_keys > config_keys.md
"""

import inspect
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import catrank

# isort: split
from detectron2.config import CfgNode

from segcore.config import default_config

REPOSITORY = Path(__file__).resolve().parents[2]
HEAD = """\
# Config keys

This page lists the config keys that CatRank adds to Detectron2's, with their defaults and meanings.
It is generated from the comments in the code. [Configuration](configuration.md) describes how
configs are found, read and checked.

"""
PARTS = {
    "segcore": "all models",
    "catseg_d2": "CAT-Seg",
    "mask2former_rankseg": "Mask2Former",
    "per_pixel": "per-pixel models",
    "groupvit_mixreorg": "GroupViT, MixReorg",
}


@dataclass(frozen=True)
class Key:
    """A config key.

    Attributes:
        name: with all its sections, "SOLVER.EMA_DECAY".
        default: its value.
        package: that adds it.
        comment: what the code says about it.
    """

    name: str
    default: Any
    package: str
    comment: str


def all_keys() -> list[Key]:
    """Return the keys of all families, in the order of their names."""
    for family in catrank.FAMILIES:
        __import__(family)
    positions: dict[tuple[int, str], tuple[Path, int]] = {}
    set_attribute = CfgNode.__setattr__

    def noting(node: CfgNode, name: str, value: Any) -> None:
        frame = inspect.currentframe().f_back
        where = (Path(frame.f_code.co_filename), frame.f_lineno)
        if REPOSITORY in where[0].parents and where[0].relative_to(REPOSITORY).parts[0] in PARTS:
            key = (id(node), name)
            if key not in positions or not comment_of(*positions[key]):
                positions[key] = where
        set_attribute(node, name, value)

    with patch.object(CfgNode, "__setattr__", noting):
        cfg = default_config()
    return sorted(_leaves(cfg, positions, ""), key=lambda key: key.name)


def _leaves(node: CfgNode, positions: dict, prefix: str) -> Iterator[Key]:
    for name, value in node.items():
        if isinstance(value, CfgNode):
            yield from _leaves(value, positions, f"{prefix}{name}.")
        elif (id(node), name) in positions:
            path, line = positions[id(node), name]
            package = path.relative_to(REPOSITORY).parts[0]
            yield Key(f"{prefix}{name}", value, package, comment_of(path, line))


def comment_of(path: Path, line: int) -> str:
    """Return the comment of an assignment: above and behind it, or else above its group.

    Args:
        path: of the file.
        line: number of the first line of the assignment, from 1.
    """
    lines = path.read_text("utf-8").splitlines()
    above: list[str] = []
    behind = re.search(r"  # (.*)$", lines[line - 1])
    if behind and not _comment(lines[line - 2]):
        return behind[1]
    index = line - 2
    while index >= 0 and lines[index].strip() and not _comment(lines[index]):
        if re.match(r"\s*(def|class|if|for|@|\"\"\")", lines[index]):
            break
        index -= 1
    while index >= 0 and (text := _comment(lines[index])):
        above.insert(0, text)
        index -= 1
    return " ".join([*above, *([behind[1]] if behind else [])])


def _comment(line: str) -> str:
    found = re.fullmatch(r"\s*# ?(.*)", line)
    return found[1].strip() if found else ""


def page() -> str:
    """Return the page, in Markdown."""
    sections: dict[str, list[Key]] = defaultdict(list)
    for key in all_keys():
        sections[key.name.rpartition(".")[0] or "Top level"].append(key)
    parts = [HEAD]
    for section, keys in sorted(sections.items()):
        parts.append(f"## {section}\n\n| key | default | | of |\n| --- | --- | --- | --- |\n")
        parts += [_row(key) for key in keys]
        parts.append("\n")
    return "".join(parts)


def _row(key: Key) -> str:
    short = key.name.rpartition(".")[2]
    default = repr(key.default).replace("|", "\\|")
    comment = key.comment.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
    return f"| `{short}` | `{default}` | {comment} | {PARTS[key.package]} |\n"


if __name__ == "__main__":
    print(page(), end="")
