"""The benchmark of evaluators: all ways find the same, and the table says so."""

import importlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog


@pytest.fixture
def bench(repository, monkeypatch):
    monkeypatch.syspath_prepend(str(repository / "bench"))
    return importlib.import_module("evaluators")


@pytest.fixture
def measured(bench):
    """Measures in this process, and forgets the data set again."""

    def measure(function, *arguments):
        threads = torch.get_num_threads()
        try:
            return function(*arguments)
        finally:
            torch.set_num_threads(threads)
            if bench.NAME in DatasetCatalog.list():
                DatasetCatalog.remove(bench.NAME)
                MetadataCatalog.remove(bench.NAME)

    return measure


def test_maps_show_few_of_the_classes(bench) -> None:
    ground_truth, prediction = bench.random_maps(0, 847, (64, 80))
    shown = set(np.unique(ground_truth)) - {bench.IGNORE_LABEL}
    assert ground_truth.shape == prediction.shape == (64, 80) and 5 < len(shown) <= bench.SHOWN
    assert prediction.min() >= 0 and prediction.max() < 847
    assert 0.4 < (ground_truth == prediction).mean() < 0.9


def test_every_way_finds_the_same(bench, measured, tmp_path) -> None:
    maps = bench.Maps(tmp_path, 12, 40, (32, 48))
    maps.write()
    ways = [name for name in bench.WAYS if bench.has_detectron2() or name.startswith("ours")]
    found = {name: measured(bench.measure, maps, name) for name in ways}
    assert len({round(one.miou, 9) for one in found.values()}) == 1
    assert all(one.milliseconds > 0 and min(one.memory) > 0 for one in found.values())


def test_the_page(bench, measured, monkeypatch, capsys) -> None:
    """Detectron2's numbers are made up here, where only its stand-in is installed."""
    made_up = bench.Measured(50.0, (1, 1), 40.0)

    def alone(function, *arguments):
        if function is bench.measure and arguments[1].startswith("Detectron2"):
            return replace(made_up, milliseconds=1e-6 if "as" in arguments[1] else 1e6)
        return measured(function, *arguments)

    monkeypatch.setattr(bench, "alone", alone)
    arguments = ["--images", "20", "--theirs", "5", "--classes", "30", "--size", "20", "30"]
    for there in (True, False):
        monkeypatch.setattr(bench, "has_detectron2", lambda there=there: there)
        monkeypatch.setattr("sys.argv", ["evaluators.py", *arguments])
        bench.main()
        page = capsys.readouterr().out
        assert "| ours, label maps | 20 |" in page and "Memory of ours:" in page
        assert ("need the real one" in page) == (not there)
        assert (f"label maps, at least {bench.GATE}" in page) == there
        assert (f"label maps, less than {bench.GATE}" in page) == there


def test_too_few_images_are_refused(bench) -> None:
    with pytest.raises(ValueError, match="--images"):
        bench.parse_arguments(["--images", "2"])
