"""The benchmark: the baseline gives our numbers, and a line without memory is no end."""

import importlib
import os
import signal
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))
import deterministic

from segcore.errors import UserError

TINY = "catseg_d2/scenes_60.yaml"


@pytest.fixture(autouse=True)
def scripts(repository, monkeypatch):
    """They import each other by name, as they do when they are run."""
    monkeypatch.syspath_prepend(str(repository / "bench"))


@pytest.fixture
def bench():
    return importlib.import_module("catseg")


def test_a_process_without_enough_memory_has_no_result():
    measure = importlib.import_module("measure")
    assert measure.alone(os.getpid) != os.getpid()
    assert measure.alone(signal.raise_signal, signal.SIGKILL) is None
    assert measure.alone(torch.empty, 1 << 50) is None


@pytest.mark.parametrize("number", [20, 70])
def test_baseline_and_ours_agree(bench, number: int):
    """Below and above the classes that are kept; all weights drawn, so that nothing hides."""
    from baseline_catseg import BaselineCATSeg

    model = bench.build(
        TINY,
        TEST__SLIDING_WINDOW=True,
        MODEL__SEM_SEG_HEAD__MAX_CLASSES=64,
        MODEL__SEM_SEG_HEAD__POOLING_SIZES=[2, 2],
    ).eval()
    for parameter in model.aggregator.parameters():
        nn.init.normal_(parameter, std=0.1)
    words = bench.many_class_names(number)
    image = deterministic.image("bench", 70, 90)
    baseline = BaselineCATSeg(model)
    baseline.set_vocabulary(words)
    model.set_vocabulary(words)
    scores = model([{"image": image}])[0]["sem_seg"]
    torch.testing.assert_close(baseline(image), scores, rtol=1e-4, atol=2e-5)


def test_the_loss_of_the_baseline_is_ours(bench):
    from baseline_catseg import BaselineCATSeg

    model = bench.build(
        TINY, MODEL__SEM_SEG_HEAD__COST_LOSS_WEIGHT=0.0, MODEL__SEM_SEG_HEAD__TRAIN_CANDIDATES=0
    )
    model.train()
    model.train_vocabulary = model.train_vocabulary.__class__.load(bench.many_class_names(9))
    image = deterministic.image("bench", 96, 96)
    labels = torch.arange(96)[:, None].expand(96, 96) // 11
    losses = model([{"image": image, "sem_seg": labels}])
    torch.testing.assert_close(BaselineCATSeg(model).loss(image, labels), losses["loss_sem_seg"])


def test_class_names_are_different(bench):
    assert len(set(bench.many_class_names(20_000))) == 20_000


def test_a_line_that_does_not_fit_says_so_and_the_others_are_measured(bench, monkeypatch, capsys):
    def alone(_, config, number, baseline):
        return None if baseline else bench.Measured(1, number, 3e9)

    measure = importlib.import_module("measure")
    monkeypatch.setattr(measure, "alone", alone)
    monkeypatch.setattr(measure, "product_rate", lambda: 1e11)
    monkeypatch.setattr("sys.argv", ["catseg.py", "--words", "20", "7", "--runs", "3"])
    bench.main()
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
    assert lines[0][:2] == ["20", "baseline"] and "does not fit the memory" in " ".join(lines[0])
    assert lines[1] == ["20", "ours", "1.00", "20.00", "3.00", "4.00", "100.0"]
    assert lines[3] == ["7", "ours", "1.00", "7.00", "3.00", "100.0"]


def test_a_device_is_chosen(bench, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="there is no GPU"):
        bench.settle_device("cuda")
    assert bench.settle_device("cpu") == "CPU"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.slow
def test_every_table_is_printed(bench, monkeypatch, capsys):
    measure = importlib.import_module("measure")
    monkeypatch.setattr(measure, "alone", lambda function, *arguments: function(*arguments))
    monkeypatch.setattr(measure, "product_rate", lambda: 1e11)
    models = importlib.import_module("catseg_models")
    monkeypatch.setattr(models, "HEIGHT", 64)
    monkeypatch.setattr(models, "WIDTH", 96)
    common = ["catseg.py", "--config-file", TINY, "--runs", "1"]
    for options in (["--words", "3"], ["--training"], ["--rounding", "--words", "3"]):
        monkeypatch.setattr("sys.argv", [*common, *options])
        bench.main()
    said = capsys.readouterr().out
    assert "does not fit" not in said
    assert all(way in said for way in ("ours", "recomputed", "compiled", "channels last"))
