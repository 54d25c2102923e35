"""Windows of scalars, time left, images and histograms of the event storage."""

import json

import pytest
import torch
from detectron2.utils.events import (
    CommonMetricPrinter,
    EventStorage,
    JSONWriter,
    TensorboardXWriter,
)

LOGGER = "detectron2.utils.events"


def test_window_ends_at_the_last_value():
    """Not at the iteration of the storage: a scalar may be stored rarely, or no longer."""
    with EventStorage() as storage:
        for iteration in range(100):
            storage.iter = iteration
            if iteration < 40:
                storage.put_scalar("a", float(iteration))
        assert storage.count_samples("a", 20) == 20
        assert storage.latest_with_smoothing_hint(20)["a"] == (29.5, 39)


def test_scalar_of_every_tenth_iteration(tmp_path):
    with EventStorage() as storage:
        writer = JSONWriter(str(tmp_path / "metrics.json"), window_size=20)
        for iteration in range(0, 60, 10):
            storage.iter = iteration
            storage.put_scalar("a", float(iteration))
        storage.iter = 65
        assert storage.count_samples("a", 20) == 2
        assert storage.count_samples("a", 21) == 3
        writer.write()
        writer.close()
    lines = (tmp_path / "metrics.json").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"a": 45.0, "iteration": 50}]


def test_line(log_lines):
    """Time left: the median of the times; "time": the mean of all; a loss: the window's median."""
    lines = log_lines(LOGGER)
    with EventStorage() as storage:
        for iteration in range(40):
            storage.iter = iteration
            storage.put_scalar("time", 100.0 if iteration == 0 else 1.0)
            storage.put_scalar("data_time", 100.0 if iteration == 0 else 0.5)
            storage.put_scalar("loss_x", float(iteration))
            storage.put_scalar("[metric]/y", 0.25)
            storage.put_scalar("other", 7.0)
        storage.put_scalar("lr", 0.01, smoothing_hint=False)
        CommonMetricPrinter(100).write()
        assert storage.latest()["eta_seconds"][0] == 60.0
    assert lines[0].rstrip().split("max_mem")[0].rstrip() == (
        " eta: 0:01:00  iter: 39  loss_x: 29.5  [metric]/y: 0.25  time: 3.4750  last_time: 1.0000"
        "  data_time: 0.5000  last_data_time: 0.5000   lr: 0.01"
    )


def test_time_left_without_a_timer(log_lines):
    """It is estimated from the second line on; without a schedule there is no learning rate."""
    lines = log_lines(LOGGER)
    with EventStorage() as storage:
        printer = CommonMetricPrinter(100)
        for iteration in range(3):
            storage.iter = iteration
            printer.write()
        assert "eta_seconds" not in storage.latest()
    assert ["eta: " in line for line in lines] == [False, True, True]
    assert all("lr: N/A" in line for line in lines)


def test_no_time_left_without_an_end(log_lines):
    lines = log_lines(LOGGER)
    with EventStorage() as storage:
        storage.put_scalar("time", 1.0)
        CommonMetricPrinter().write()
    assert "eta" not in lines[0]


class _Writer:
    """Stands in for TensorBoard's writer and notes its calls."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        return lambda *args, **kwargs: self.calls.append((name, args, kwargs))


def test_images_and_histograms(tmp_path):
    image = torch.zeros(3, 4, 4)
    with EventStorage(5) as storage:
        storage.put_image("x", image)
        storage.put_histogram("h", torch.tensor([0.0, 1.0, 1.0, 3.0]), bins=3)
        writer = TensorboardXWriter(str(tmp_path))
        writer.__dict__["_writer"] = fake = _Writer()
        writer.write()
        writer.write()  # nothing is left
    (name, args, _), (histogram, _, facts) = fake.calls
    assert (name, args) == ("add_image", ("x", image, 5))
    assert histogram == "add_histogram_raw"
    assert facts == {
        "tag": "h",
        "min": 0.0,
        "max": 3.0,
        "num": 4,
        "sum": 5.0,
        "sum_squares": 11.0,
        "bucket_limits": [1.0, 2.0, 3.0],
        "bucket_counts": [1.0, 2.0, 1.0],
        "global_step": 5,
    }


def test_clearing(tmp_path):
    with EventStorage() as storage:
        storage.put_image("x", torch.zeros(3, 4, 4))
        storage.put_histogram("h", torch.arange(4.0))
        storage.clear_images()
        storage.clear_histograms()
        writer = TensorboardXWriter(str(tmp_path))
        writer.__dict__["_writer"] = fake = _Writer()
        writer.write()
    assert fake.calls == []


def test_storages_close_in_order():
    outer, inner = EventStorage(), EventStorage()
    with pytest.raises(AssertionError), outer:
        inner.__enter__()
        outer.__exit__(None, None, None)
    inner.__exit__(None, None, None)
    outer.__exit__(None, None, None)
