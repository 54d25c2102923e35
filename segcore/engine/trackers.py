"""Experiment trackers beside TensorBoard: Weights & Biases, trackio and MLflow.

``TRACKER.NAME`` chooses one. Its package is an extra of CatRank and is imported when a run starts
that asks for it, in the main process alone. :class:`Tracker` is what a tracker has to do; a further
one is a subclass in ``TRACKERS``.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np
from detectron2.config import CfgNode

from segcore.errors import UserError, printable

NONE = "none"


class Tracker(ABC):
    """A run of a tracker."""

    def __init__(self, library: ModuleType) -> None:
        """Keep the imported package of the tracker."""
        self.library = library

    @abstractmethod
    def start(self, project: str, name: str, folder: str, settings: dict, run_id: str) -> str:
        """Start a run, or continue one.

        Args:
            project: group of runs.
            name: of the run.
            folder: for files of the tracker, if it keeps any on this machine.
            settings: the config, as nested dicts.
            run_id: "" for a new run, else the id of the run to continue.

        Returns:
            the id of the run.
        """

    @abstractmethod
    def log(self, numbers: Mapping[str, float], iteration: int) -> None:
        """Log numbers by name."""

    @abstractmethod
    def log_image(self, name: str, image: np.ndarray, iteration: int) -> None:
        """Log an RGB image (H, W, 3) uint8."""

    @abstractmethod
    def close(self) -> None:
        """Finish the run."""


class WandbTracker(Tracker):
    """Weights & Biases; ``WANDB_MODE=offline`` writes to the output folder alone."""

    def start(self, project: str, name: str, folder: str, settings: dict, run_id: str) -> str:
        self._run = self.library.init(
            project=project,
            name=name,
            dir=folder,
            config=settings,
            id=run_id or None,
            resume="allow" if run_id else None,
        )
        # A resumed run goes back to its last checkpoint; wandb's own steps never go back.
        self._run.define_metric("*", step_metric="iteration")
        return self._run.id

    def log(self, numbers: Mapping[str, float], iteration: int) -> None:
        self._run.log({**numbers, "iteration": iteration})

    def log_image(self, name: str, image: np.ndarray, iteration: int) -> None:
        self._run.log({name: self.library.Image(image), "iteration": iteration})

    def close(self) -> None:
        self._run.finish()


class TrackioTracker(Tracker):
    """trackio, which keeps runs on this machine; a run is known by its name."""

    def start(self, project: str, name: str, folder: str, settings: dict, run_id: str) -> str:
        self.library.init(
            project=project,
            name=run_id or name,
            config=settings,
            resume="must" if run_id else "never",
        )
        return run_id or name

    def log(self, numbers: Mapping[str, float], iteration: int) -> None:
        self.library.log(dict(numbers), step=iteration)

    def log_image(self, name: str, image: np.ndarray, iteration: int) -> None:
        self.library.log({name: self.library.Image(image)}, step=iteration)

    def close(self) -> None:
        self.library.finish()


class MLflowTracker(Tracker):
    """MLflow; ``MLFLOW_TRACKING_URI`` names its server, or a folder of this machine."""

    def start(self, project: str, name: str, folder: str, settings: dict, run_id: str) -> str:
        self.library.set_experiment(project)
        run = self.library.start_run(run_id=run_id or None, run_name=name)
        self.library.log_dict(settings, "config.json")
        return run.info.run_id

    def log(self, numbers: Mapping[str, float], iteration: int) -> None:
        self.library.log_metrics({_allowed(n): v for n, v in numbers.items()}, step=iteration)

    def log_image(self, name: str, image: np.ndarray, iteration: int) -> None:
        self.library.log_image(image, key=_allowed(name), step=iteration)

    def close(self) -> None:
        self.library.end_run()


TRACKERS: dict[str, type[Tracker]] = {
    "wandb": WandbTracker,
    "trackio": TrackioTracker,
    "mlflow": MLflowTracker,
}


def check_tracker(name: str) -> None:
    """Check ``TRACKER.NAME`` without importing anything.

    Raises:
        UserError: there is no such tracker, or its package is not installed.
    """
    if name == NONE:
        return
    if name not in TRACKERS:
        known = ", ".join((NONE, *TRACKERS))
        raise UserError(f"TRACKER.NAME is {printable(repr(name))}; there are {known}")
    if find_spec(name) is None:
        raise UserError(
            f"TRACKER.NAME is {name}, which is not installed: pip install 'catrank[{name}]'"
        )


def plain(node: Any) -> Any:
    """Return a config node as nested dicts with lists and plain values."""
    if isinstance(node, CfgNode):
        return {key: plain(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [plain(value) for value in node]
    return node


def _allowed(name: str) -> str:
    """Return a name with MLflow's characters alone: "recall@5" becomes "recall_5"."""
    return re.sub(r"[^\w\-. /]", "_", name)
