"""Files that are whole or absent: each is written beside its place and then renamed."""

import json
import os
from collections.abc import Callable
from pathlib import Path


def replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write beside ``path``, then rename: ``path`` never holds half a file."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    write(beside)
    beside.replace(path)


def write_text(path: Path, text: str) -> None:
    """As UTF-8."""
    replace(path, lambda beside: beside.write_text(text, "utf-8"))


def write_json(path: Path, content: object) -> None:
    """In one line."""
    write_text(path, json.dumps(content, separators=(",", ":")) + "\n")
