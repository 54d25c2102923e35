"""Resume an interrupted run over many images when the same command is run again."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from catrank import Model
from catrank.exports.files import unwritable
from segcore.errors import UserError
from segcore.evaluation.resuming import config_hash, weights_hash
from segcore.runtime.files import write_text

NAME = "progress.jsonl"


class Progress:
    """The images that a run has finished, recorded in the output folder until all are.

    The first line of the file holds a hash of the settings and the names of all results; each
    further line holds the name of complete results and the identity of their image.

    Args:
        folder: of the results.
        settings: a hash of this run's settings; a record of other settings is ignored.

    Attributes:
        names: of the results of such a run, complete or not.
        done: name of complete results -> identity of their image.
    """

    def __init__(self, folder: Path, settings: str) -> None:
        self.path, self.settings = Path(folder) / NAME, settings
        self.names: set[str] = set()
        self.done: dict[str, str] = {}
        self._load()

    def holds(self, name: str, image: Path) -> bool:
        """Whether the results ``name`` are complete, and of this image as it is now."""
        return name in self.done and self.done[name] == _identity(image)

    def begin(self, names: Mapping[Path, str]) -> None:
        """Record the results to be written; images that have changed count as not done.

        Raises:
            UserError: the folder cannot be written.
        """
        self.names |= {*names.values()}
        self.done = {name: self.done[name] for p, name in names.items() if self.holds(name, p)}
        lines: list[list[Any]] = [
            [self.settings, sorted(self.names)],
            *map(list, self.done.items()),
        ]
        try:
            write_text(self.path, "".join(_line(line) for line in lines))
        except OSError as error:
            raise UserError(unwritable(self.path, error)) from error

    def add(self, name: str, image: Path) -> None:
        """Record that the results ``name`` are complete.

        Raises:
            UserError: the folder cannot be written.
        """
        self.done[name] = _identity(image)
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(_line([name, self.done[name]]))
        except OSError as error:
            raise UserError(unwritable(self.path, error)) from error

    def forget(self) -> None:
        """Start over."""
        self.names, self.done = set(), {}

    def finish(self) -> None:
        """Remove the record: every image is done."""
        self.path.unlink(missing_ok=True)

    def _load(self) -> None:
        try:
            first, *others = self.path.read_text("utf-8").split("\n")
            settings, names = json.loads(first)
            if settings == self.settings:
                self.names = {*map(str, names)}
                # The text after the last line break is empty or incomplete.
                self.done = {str(n): str(image) for n, image in map(json.loads, others[:-1])}
        except (OSError, ValueError, TypeError):  # absent, or damaged: nothing is done
            self.forget()


def settings_hash(model: Model, alpha: float, formats: Sequence[str] = ()) -> str:
    """Return a hash of all that determines the results of an image."""
    settings = [
        config_hash(model.cfg),
        weights_hash(model.network),
        model.vocabulary.to_table(),
        model.min_score,
        alpha,
        *formats,
    ]
    return hashlib.sha256(json.dumps(settings).encode()).hexdigest()


def _identity(image: Path) -> str:
    """Return a text that changes when the file is another, is modified or is removed."""
    try:
        status = image.stat()
    except OSError:  # reading the image raises the error message
        return f"{image.resolve()} is gone"
    return f"{image.resolve()} {status.st_size} {status.st_mtime_ns}"


def _line(content: list) -> str:
    return json.dumps(content) + "\n"
