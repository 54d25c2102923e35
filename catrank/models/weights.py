"""Weights by name, path or address, as a file of this machine."""

import os
from dataclasses import dataclass
from pathlib import Path

from segcore.errors import UserError, printable
from segcore.runtime.files import user_path

from .table import ModelEntry, find, shipped_file

SUFFIXES = (".pth", ".pt", ".pkl", ".safetensors")  # of checkpoints


@dataclass(frozen=True)
class Weights:
    """A checkpoint on this machine.

    Attributes:
        path: of the file.
        entry: its line of the model zoo; None for a file or an address of the user's.
    """

    path: Path
    entry: ModelEntry | None


def resolve(model: str | os.PathLike, *, progress: bool = True) -> Weights:
    """Return the checkpoint that a name of the model zoo or a path stands for.

    Args:
        model: a path of a file, which comes first, or a name of the model zoo.
        progress: show a progress bar while a file is downloaded.

    Raises:
        UserError: there is no such file or model.
    """
    text = os.fspath(model)
    path = user_path(text)
    if path.is_file():
        return Weights(path, None)
    if not isinstance(model, str) or path.suffix.lower() in SUFFIXES or {"/", os.sep} & {*text}:
        raise UserError(f"there is no checkpoint {printable(path)}")
    entry = find(text)
    if entry.kind == "shipped":
        return Weights(shipped_file(entry), entry)
    raise UserError(
        f"{entry.name} is not on this machine: download {entry.weights}, and name the file by its "
        "path"
    )
