"""Metrics of a training run: an EventStorage holds them, writers write them."""

import datetime
import json
import logging
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from itertools import takewhile
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
        self._latest_scalars: dict[str, tuple[float, int]] = {}
        self._iter = start_iter
        self._current_prefix = ""
        self._vis_data: list[tuple[str, Any, int]] = []  # until a writer takes them
        self._histograms: list[dict[str, Any]] = []

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
        name = self._current_prefix + name
        iteration = self._iter if cur_iter is None else cur_iter
        value = float(value)
        if self._smoothing_hints.setdefault(name, smoothing_hint) != smoothing_hint:
            raise AssertionError(f"scalar {name} was put with another smoothing_hint before")
        self._history[name].update(value, iteration)
        self._latest_scalars[name] = (value, iteration)

    def put_scalars(
        self, *, smoothing_hint: bool = True, cur_iter: int | None = None, **kwargs: Any
    ) -> None:
        """Add several values, given by name."""
        for name, value in kwargs.items():
            self.put_scalar(name, value, smoothing_hint=smoothing_hint, cur_iter=cur_iter)

    def put_image(self, img_name: str, img_tensor: Any) -> None:
        """Keep an image for the next writer of images.

        Args:
            img_name: its name.
            img_tensor: (3, H, W) RGB, uint8 or float in 0..1; tensor or array.
        """
        self._vis_data.append((img_name, img_tensor, self._iter))

    def put_histogram(self, hist_name: str, hist_tensor: torch.Tensor, bins: int = 1000) -> None:
        """Keep the histogram of a tensor's values for the next writer of histograms."""
        low, high = hist_tensor.min().item(), hist_tensor.max().item()
        edges = torch.linspace(low, high, bins + 1, dtype=torch.float32)
        histogram = {  # the arguments of SummaryWriter.add_histogram_raw
            "tag": hist_name,
            "min": low,
            "max": high,
            "num": len(hist_tensor),
            "sum": float(hist_tensor.sum()),
            "sum_squares": float((hist_tensor**2).sum()),
            "bucket_limits": edges[1:].tolist(),
            "bucket_counts": torch.histc(hist_tensor, bins).tolist(),
            "global_step": self._iter,
        }
        self._histograms.append(histogram)

    def clear_images(self) -> None:
        """Drop the images."""
        self._vis_data = []

    def clear_histograms(self) -> None:
        """Drop the histograms."""
        self._histograms = []

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
        return self._latest_scalars

    def latest_with_smoothing_hint(self, window_size: int = 20) -> dict[str, tuple[float, int]]:
        """Like :meth:`latest`, with the recent median for scalars that should be smoothed."""
        return {
            name: (self._smoothed(name, window_size, value), iteration)
            for name, (value, iteration) in self._latest_scalars.items()
        }

    def _smoothed(self, name: str, window_size: int, value: float) -> float:
        if not self._smoothing_hints[name]:
            return value
        return self._history[name].median(self.count_samples(name, window_size))

    def count_samples(self, name: str, window_size: int = 20) -> int:
        """Number of values that one scalar got in its last ``window_size`` iterations.

        They are counted back from the iteration of its newest value; 0 for a name without values.
        """
        iterations = [i for _, i in self._history[name].values()] if name in self._history else []
        recent = takewhile(lambda i: i > iterations[-1] - window_size, reversed(iterations))
        return sum(1 for _ in recent)

    def smoothing_hints(self) -> dict[str, bool]:
        """Whether each scalar should be smoothed."""
        return self._smoothing_hints

    def step(self) -> None:
        """Advance to the next iteration."""
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
        if get_event_storage() is not self:
            raise AssertionError("storages must be closed in the opposite order of opening")
        _open_storages.pop()

    @contextmanager
    def name_scope(self, name: str) -> Iterator[None]:
        """Put ``name/`` before every name inside the ``with`` block."""
        outer, self._current_prefix = self._current_prefix, name.rstrip("/") + "/"
        try:
            yield
        finally:
            self._current_prefix = outer


class EventWriter:
    """Base of writers, which write the metrics of the current storage."""

    def write(self) -> None:
        """Write what is new."""
        raise NotImplementedError

    def close(self) -> None:
        """Release the writer's resources."""


def _scalars_since(last: int, window_size: int) -> dict[int, dict[str, float]]:
    """Return the scalars of the current storage since iteration ``last``, by iteration and name."""
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
        os.fsync(self._file.fileno())
        self._last_write = max([self._last_write, *lines])

    def close(self) -> None:
        self._file.close()


class TensorboardXWriter(EventWriter):
    """Writes scalars, images and histograms for TensorBoard; clears the latter two."""

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
        storage = get_event_storage()
        for name, image, iteration in storage._vis_data:
            self._writer.add_image(name, image, iteration)
        storage.clear_images()
        for histogram in storage._histograms:
            self._writer.add_histogram_raw(**histogram)
        storage.clear_histograms()

    def close(self) -> None:
        if "_writer" in self.__dict__:
            self._writer.close()


class CommonMetricPrinter(EventWriter):
    """Logs one line: time left, iteration, losses, times, learning rate, memory.

    Losses and what has "[metric]" in its name are medians over ``window_size`` iterations,
    ``data_time`` is the mean over them, ``time`` that over all iterations. The time left comes from
    the median of the last 1000 times, or, without an ``IterationTimer``, from the clock.
    """

    def __init__(self, max_iter: int | None = None, window_size: int = 20) -> None:
        self.logger = logging.getLogger("detectron2.utils.events")
        self._max_iter = max_iter
        self._window_size = window_size
        self._last_write: tuple[int, float] | None = None  # iteration and moment

    def write(self) -> None:
        storage = get_event_storage()
        if storage.iter == self._max_iter:
            return  # called again after training: there is nothing to write
        eta = self._eta(storage)
        rate = f"{storage.history('lr').latest():.5g}" if "lr" in storage.latest() else "N/A"
        memory = ""
        if torch.cuda.is_available():
            memory = f"max_mem: {torch.cuda.max_memory_allocated() / 2**20:.0f}M"
        self.logger.info(
            " %siter: %d  %s  %s  %s lr: %s  %s",
            f"eta: {eta}  " if eta else "",
            storage.iter,
            self._medians(storage, "loss"),
            self._medians(storage, "[metric]"),
            "".join(f"{name}: {value:.4f}  " for name, value in self._times(storage).items()),
            rate,
            memory,
        )

    def _medians(self, storage: EventStorage, part: str) -> str:
        """The scalars with ``part`` in their names."""
        return "  ".join(
            f"{name}: {history.median(storage.count_samples(name, self._window_size)):.4g}"
            for name, history in storage.histories().items()
            if part in name
        )

    def _times(self, storage: EventStorage) -> dict[str, float]:
        """Return the seconds by field, of the stored ones: the first iterations are not timed."""
        times, known = {}, storage.latest()
        if "time" in known:
            history = storage.history("time")
            times |= {"time": history.global_avg(), "last_time": history.latest()}
        if "data_time" in known:
            history = storage.history("data_time")
            samples = storage.count_samples("data_time", self._window_size)
            times |= {"data_time": history.avg(samples), "last_data_time": history.latest()}
        return times

    def _eta(self, storage: EventStorage) -> str | None:
        """Return the remaining time; None without ``max_iter`` and before a speed is known."""
        if self._max_iter is None:
            return None
        left = self._max_iter - storage.iter - 1
        if "time" in storage.latest():
            seconds = storage.history("time").median(1000) * left
            storage.put_scalar("eta_seconds", seconds, smoothing_hint=False)
            return str(datetime.timedelta(seconds=int(seconds)))
        now, last = time.perf_counter(), self._last_write
        self._last_write = (storage.iter, now)
        if last is None or storage.iter == last[0]:
            return None
        seconds = (now - last[1]) / (storage.iter - last[0]) * left
        return str(datetime.timedelta(seconds=int(seconds)))
