"""A Ray actor: it loads the model once, and labels and commits shards."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from catrank.exports.files import make_folder, unwritable
from catrank.labelling.hashes import model_hash
from catrank.labelling.plan import Plan
from catrank.labelling.shards import LABELS, is_finished, label_shard
from segcore.errors import UserError
from segcore.runtime.files import PARTIAL

ATTEMPTS = 10  # at a shard whose workers die, as they do where memory runs out

Loading = dict[str, Any]  # arguments of catrank.load


class ShardWorker:
    """An actor: loads the model once and labels the shards that it gets.

    Args:
        loading: arguments of ``catrank.load``.
        folder: the output folder, on a disk that all machines share.
    """

    def __init__(self, loading: Loading, folder: str) -> None:
        import torch

        from catrank.model import load

        self.failure, self.plan, self.model = "", Plan.load(Path(folder)), None
        torch.set_num_threads(self.plan.settings.threads)
        try:
            model = load(**loading)
            if model_hash(model) != self.plan.settings.model:
                raise UserError(
                    f"machine {os.uname().nodename} has another model of that name, or another "
                    "version of CatRank: install the same files on all machines"
                )
            self.model = model
        except UserError as error:  # an actor that fails to start would be started for ever
            self.failure = str(error)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """Label the shards with the numbers ``batch["shard"]``; "failure" is a user error."""
        failures = [self._label(number) for number in batch["shard"].tolist()]
        return {"shard": batch["shard"], "failure": failures}

    def _label(self, number: int) -> str:
        if self.model is None:
            return self.failure
        try:
            if not is_finished(self.plan, number):  # a killed actor may have finished it
                with _counted(self.plan, number):
                    label_shard(self.model, self.plan, number)
        except UserError as error:
            return str(error)
        return ""


@contextmanager
def _counted(plan: Plan, number: int) -> Iterator[None]:
    """Count the attempts at a shard in a file, since Ray Data repeats them without an end.

    Raises:
        UserError: there were too many, or the file cannot be written.
    """
    path = plan.folder / LABELS / f"{PARTIAL}attempts-{number:06d}"
    make_folder(path.parent)
    try:
        with path.open("ab") as file:
            if file.tell() >= ATTEMPTS:
                raise UserError(
                    f"shard {number} has ended {ATTEMPTS} workers, perhaps for lack of memory: run "
                    "the same command with fewer --workers, or with a smaller --batch-size into "
                    "another --output"
                )
            file.write(b".")
    except OSError as error:
        raise UserError(unwritable(path, error)) from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
