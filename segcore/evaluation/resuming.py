"""Resume interrupted evaluations."""

import hashlib
import json
import logging
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from torch import nn

from segcore.config import default_config
from segcore.errors import UserError
from segcore.evaluation.stateful import StatefulEvaluator
from segcore.runtime.files import writing

logger = logging.getLogger(__name__)

# Config sections that affect predictions, and keys in them that do not.
SECTIONS = ("MODEL", "INPUT", "TEST")
OTHER_KEYS = {
    "MODEL": ("WEIGHTS",),  # the weights themselves are hashed instead
    "TEST": ("SAVE_SECONDS", "TIMEOUT_MINUTES", "EVAL_PERIOD", "EXPECTED_RESULTS"),
}
LEAST_PAUSE = 20  # smallest pause between two saves, in durations of a save


class ResumableEvaluation(DatasetEvaluator):
    """Wrap an evaluator, and save its state regularly, in one file per process.

    The constructor is collective: all processes have to call it.

    Attributes:
        done: number of evaluated items of this process's shard; None if all are evaluated and the
            results are known.
    """

    def __init__(
        self,
        evaluator: StatefulEvaluator,
        folder: str | Path,
        fingerprint: dict[str, str],
        seconds: float,
    ) -> None:
        """Load the state of an interrupted evaluation with the same fingerprint, if there is one.

        Args:
            evaluator: that of a data set.
            folder: of the file.
            fingerprint: name for messages -> hash, of everything that predictions depend on.
            seconds: the least time between two saves.
        """
        self.evaluator, self.fingerprint, self.seconds = evaluator, fingerprint, seconds
        rank, number = comm.get_rank(), comm.get_world_size()
        self.path = Path(folder) / f"unfinished-{rank}-of-{number}.pt"
        evaluator.reset()
        self._remove_others()
        self.done: int | None = 0
        self._results: dict | None = None
        self._load()
        # All processes follow the main one.
        self._results = comm.all_gather(self._results)[0]
        if self._results is not None:
            self.done = None
        self._saved_at, self._pause = time.monotonic(), seconds

    def reset(self) -> None:
        """Do nothing: the constructor has loaded the state."""

    def process(self, inputs: Sequence[dict], outputs: Sequence[dict]) -> None:
        self.evaluator.process(inputs, outputs)
        self.done += len(inputs)
        if time.monotonic() - self._saved_at >= self._pause:
            began = time.monotonic()
            self._save(done=self.done, state=self.evaluator.state())
            self._saved_at = time.monotonic()
            self._pause = max(self.seconds, LEAST_PAUSE * (self._saved_at - began))

    def evaluate(self) -> dict | None:
        """Return the evaluator's results, which are kept until :meth:`finish`."""
        if self._results is None:
            self._results = self.evaluator.evaluate()
            if comm.is_main_process():
                self._save(results=self._results)
        return self._results if comm.is_main_process() else None

    def finish(self) -> None:
        """Delete the saved state."""
        self.path.unlink(missing_ok=True)

    def _save(self, **content: Any) -> None:
        with writing(self.path) as file:
            torch.save({"fingerprint": self.fingerprint, **content}, file)

    def _load(self) -> None:
        if not self.path.is_file():
            return
        try:
            with zipfile.ZipFile(self.path) as archive:
                if archive.testzip() is not None:  # checksums, which PyTorch does not verify
                    raise UserError("it is damaged")
            saved = torch.load(self.path, map_location="cpu", weights_only=True)
            theirs = saved["fingerprint"]
            others = [name for name, ours in self.fingerprint.items() if theirs.get(name) != ours]
            if others:
                raise UserError(f"it is of another {', another '.join(others)}")
            if "results" in saved:
                self._results = saved["results"]
                logger.info("Using the results in %s: the evaluation was finished", self.path)
                return
            self.evaluator.load_state(saved["state"])
            self.done = saved["done"]
            logger.info("Resuming from %s: %d items are done", self.path, self.done)
        except Exception as error:  # a damaged file raises nearly anything
            self.evaluator.reset()
            reason = error if isinstance(error, UserError) else "it is damaged"
            logger.warning("Starting over instead of resuming from %s: %s", self.path, reason)

    def _remove_others(self) -> None:
        """Remove the files of a run with another number of processes."""
        if not comm.is_main_process():
            return
        ours = set(self.path.parent.glob(f"unfinished-*-of-{comm.get_world_size()}.pt"))
        for path in {*self.path.parent.glob("unfinished-*-of-*.pt")} - ours:
            logger.warning("Starting over: %s is of another number of processes", path)
            path.unlink(missing_ok=True)


def weights_hash(model: nn.Module) -> str:
    """Return a hash of all parameters and buffers in the state dict."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def config_hash(cfg: CfgNode) -> str:
    """Return a hash of the config keys that affect predictions.

    Keys with their default values do not count, so that the hash is the same in every process: the
    keys of all families that a process has imported are there.
    """
    values, defaults = _values(cfg), _values(default_config())
    changed = sorted(item for item in values.items() if defaults.get(item[0]) != item[1])
    return hashlib.sha256(json.dumps(changed).encode()).hexdigest()


def _values(cfg: CfgNode) -> dict[str, str]:
    """Return the values of the keys that affect predictions, by their whole names."""
    found = {}
    for section in SECTIONS:
        for name, value in _leaves(cfg[section]):
            if name.partition(".")[0] not in OTHER_KEYS.get(section, ()):
                found[f"{section}.{name}"] = json.dumps(value)
    return found


def _leaves(node: CfgNode, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in node.items():
        if isinstance(value, CfgNode):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            # A family may have made a whole number a float.
            whole = isinstance(value, int) and not isinstance(value, bool)
            yield prefix + name, float(value) if whole else value
