"""Weights by name, path or address, as a file of this machine."""

import os
from dataclasses import dataclass
from pathlib import Path

from segcore.checkpoint.downloads import Source, fetch, is_address, local_copy
from segcore.checkpoint.formats import SUFFIXES
from segcore.checkpoint.locating import register_names
from segcore.errors import UserError, printable
from segcore.runtime.files import user_path

from .table import ModelEntry, find, list_models, shipped_file


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
    """Return the checkpoint that a name, a path or an address stands for, downloaded if need be.

    Args:
        model: a path of a file, which comes first; a name of the model zoo; or an http(s) or hf://
            address.
        progress: show a progress bar while a file is downloaded.

    Raises:
        UserError: there is no such file or model, or it cannot be downloaded or is another one than
            is known; the message says where to put it by hand.
    """
    text = os.fspath(model)
    if is_address(text):
        entry = next((entry for entry in list_models() if entry.weights == text), None)
        source = source_of(entry) if entry else Source.of_address(text)
        return Weights(fetch(source, progress=progress), entry)
    path = user_path(text)
    if path.is_file():
        return Weights(path, None)
    if not _may_be_name(text) or not isinstance(model, str):
        raise UserError(f"there is no checkpoint {printable(path)}")
    entry = find(text)
    if entry.kind == "shipped":
        return Weights(shipped_file(entry), entry)
    return Weights(fetch(source_of(entry), progress=progress), entry)


def source_of(entry: ModelEntry) -> Source:
    """Return what is to be downloaded for a published model, with what is known of the file."""
    return Source(
        address=entry.weights,
        folder=entry.name,
        name=entry.file_name,
        size=entry.size,
        sha256=entry.sha256,
        md5=entry.md5,
    )


def is_local(entry: ModelEntry) -> bool:
    """Return whether a model needs no download: it is shipped, or in the cache."""
    return entry.kind == "shipped" or local_copy(source_of(entry)) is not None


@register_names
def _file_of_name(text: str) -> Path | None:
    """What ``MODEL.WEIGHTS`` stands for where it is a name."""
    return resolve(text).path if _may_be_name(text) else None


def _may_be_name(text: str) -> bool:
    """Whether a text that is no file can be a name: it does not look like a path."""
    return not {"/", os.sep} & {*text} and not text.lower().endswith(SUFFIXES)
