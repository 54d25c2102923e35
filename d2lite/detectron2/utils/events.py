"""Numbers of a training run: kept in an EventStorage, written out by writers."""

import datetime
import json
import logging
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from fvcore.common.history_buffer import HistoryBuffer

from detectron2.utils.file_io import PathManager

_open_storages: list["EventStorage"] = []


def get_event_storage() -> "EventStorage":
    """Return the innermost storage whose ``with`` block is running."""
    if not _open_storages:
        raise AssertionError("no storage is open: call this inside `with EventStorage() as ...`")
    return _open_storages[-1]


def has_event_storage() -> bool:
    """Whether :func:`get_event_storage` would find one."""
    return bool(_open_storages)


class EventStorage:
    """The history of every scalar of a run, by name, with the iteration of each value."""

    def __init__(self, start_iter: int = 0) -> None:
        self._history: dict[str, HistoryBuffer] = defaultdict(HistoryBuffer)
        self._smoothing_hints: dict[str, bool] = {}
        self._latest: dict[str, tuple[float, int]] = {}
        self._iter = start_iter
        self._prefix = ""

    def put_scalar(
        self, name: str, value: Any, smoothing_hint: bool = True, cur_iter: int | None = None
    ) -> None:
        """Add one value.

        Args:
            name: scalar's name.
            value: a number.
            smoothing_hint: whether readers should smooth it; must not change for a name.
            cur_iter: iteration of the value, the current one by default.
        """
        name = self._prefix + name
        iteration = self._iter if cur_iter is None else cur_iter
        value = float(value)
        if self._smoothing_hints.setdefault(name, smoothing_hint) != smoothing_hint:
            raise AssertionError(f"scalar {name} was put with another smoothing_hint before")
        self._history[name].update(value, iteration)
        self._latest[name] = (value, iteration)

    def put_scalars(
        self, *, smoothing_hint: bool = True, cur_iter: int | None = None, **kwargs: Any
    ) -> None:
        """Add several values, given by name."""
        for name, value in kwargs.items():
            self.put_scalar(name, value, smoothing_hint=smoothing_hint, cur_iter=cur_iter)

    def history(self, name: str) -> HistoryBuffer:
        """Return all values of one scalar; KeyError where there is none."""
        if name not in self._history:
            raise KeyError(f"no scalar {name} was put")
        return self._history[name]

    def histories(self) -> dict[str, HistoryBuffer]:
        """Return all values of all scalars."""
        return self._history

    def latest(self) -> dict[str, tuple[float, int]]:
        """Return the last value and its iteration of every scalar."""
        return self._latest

    def latest_with_smoothing_hint(self, window_size: int = 20) -> dict[str, tuple[float, int]]:
        """Like :meth:`latest`, with the recent median for scalars that should be smoothed."""
        return {
            name: (self._smoothed(name, window_size, value), iteration)
            for name, (value, iteration) in self._latest.items()
        }

    def _smoothed(self, name: str, window_size: int, value: float) -> float:
        if not self._smoothing_hints[name]:
            return value
        return self._history[name].median(self.count_samples(name, window_size))

    def count_samples(self, name: str, window_size: int = 20) -> int:
        """Number of values that one scalar got in the last ``window_size`` iterations."""
        since = self._iter - window_size
        return sum(1 for _, iteration in self.history(name).values() if iteration > since)

    def smoothing_hints(self) -> dict[str, bool]:
        """Whether each scalar should be smoothed."""
        return self._smoothing_hints

    def step(self) -> None:
        """Go to the next iteration."""
        self._iter += 1

    @property
    def iter(self) -> int:
        """The current iteration."""
        return self._iter

    @iter.setter
    def iter(self, value: int) -> None:
        self._iter = int(value)

    @property
    def iteration(self) -> int:
        """The older name of :attr:`iter`."""
        return self._iter

    def __enter__(self) -> "EventStorage":
        _open_storages.append(self)
        return self

    def __exit__(self, exc_type: Any, exc_val: Any, exc_tb: Any) -> None:
        _open_storages.pop()

    @contextmanager
    def name_scope(self, name: str) -> Iterator[None]:
        """Put ``name/`` before every name inside the ``with`` block."""
        outer, self._prefix = self._prefix, name.rstrip("/") + "/"
        try:
            yield
        finally:
            self._prefix = outer


class EventWriter:
    """Something that carries the numbers of the open storage to somewhere."""

    def write(self) -> None:
        """Write what is new."""
        raise NotImplementedError

    def close(self) -> None:
        """Free what the writer holds."""


def _scalars_since(last: int, window_size: int) -> dict[int, dict[str, float]]:
    """What the open storage got after iteration ``last``, by iteration and name."""
    found: dict[int, dict[str, float]] = defaultdict(dict)
    scalars = get_event_storage().latest_with_smoothing_hint(window_size)
    for name, (value, iteration) in scalars.items():
        if iteration > last:
            found[iteration][name] = value
    return found


class JSONWriter(EventWriter):
    """Appends one JSON object for every iteration that has new scalars to a file."""

    def __init__(self, json_file: str, window_size: int = 20) -> None:
        self._file = PathManager.open(json_file, "a")
        self._window_size = window_size
        self._last_write = -1

    def write(self) -> None:
        lines = _scalars_since(self._last_write, self._window_size)
        for iteration, scalars in lines.items():
            line = {"iteration": iteration, **scalars}
            self._file.write(json.dumps(line, sort_keys=True) + "\n")
        self._file.flush()
        self._last_write = max([self._last_write, *lines])

    def close(self) -> None:
        self._file.close()


class TensorboardXWriter(EventWriter):
    """Writes scalars for TensorBoard."""

    def __init__(self, log_dir: str, window_size: int = 20, **kwargs: Any) -> None:
        self._log_dir, self._kwargs = log_dir, kwargs
        self._window_size = window_size
        self._last_write = -1

    @cached_property
    def _writer(self) -> Any:
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(self._log_dir, **self._kwargs)

    def write(self) -> None:
        lines = _scalars_since(self._last_write, self._window_size)
        for iteration, scalars in lines.items():
            for name, value in scalars.items():
                self._writer.add_scalar(name, value, iteration)
        self._last_write = max([self._last_write, *lines])

    def close(self) -> None:
        if "_writer" in self.__dict__:
            self._writer.close()


class CommonMetricPrinter(EventWriter):
    """Logs one line: time left, iteration, losses, times, learning rate, memory."""

    def __init__(self, max_iter: int | None = None, window_size: int = 20) -> None:
        self.logger = logging.getLogger("detectron2.utils.events")
        self._max_iter = max_iter
        self._window_size = window_size

    def write(self) -> None:
        storage = get_event_storage()
        if storage.iter == self._max_iter:
            return  # called once more after training: nothing new
        fields = [f"eta: {eta}"] if (eta := self._eta(storage)) else []
        fields += [f"iter: {storage.iter}", *self._losses(storage)]
        fields.append("  " + "  ".join(self._times(storage)))
        if "lr" in storage.latest():
            fields.append(f" lr: {storage.history('lr').latest():.5g}")
        if torch.cuda.is_available():
            fields.append(f"max_mem: {torch.cuda.max_memory_allocated() / 2**20:.0f}M")
        self.logger.info(" %s", "  ".join(fields))

    def _losses(self, storage: EventStorage) -> list[str]:
        chosen = [
            [name for name in storage.histories() if "loss" in name],
            [name for name in storage.histories() if "[metric]" in name],
        ]
        return [f"{name}: {self._median(storage, name):.4g}" for names in chosen for name in names]

    def _times(self, storage: EventStorage) -> list[str]:
        fields = []
        for name in ("time", "data_time"):
            if name in storage.latest():
                history = storage.history(name)
                mean = history.avg(storage.count_samples(name, self._window_size))
                fields.append(f"{name}: {mean:.4f}")
                fields.append(f"last_{name}: {history.latest():.4f}")
        return fields

    def _median(self, storage: EventStorage, name: str) -> float:
        return storage.history(name).median(storage.count_samples(name, self._window_size))

    def _eta(self, storage: EventStorage) -> str | None:
        """Time left; None in the first iterations, which are not timed."""
        if self._max_iter is None or "time" not in storage.latest():
            return None
        seconds = storage.history("time").global_avg() * (self._max_iter - storage.iter - 1)
        storage.put_scalar("eta_seconds", seconds, smoothing_hint=False)
        return str(datetime.timedelta(seconds=int(seconds)))
