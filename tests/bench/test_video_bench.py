"""The benchmark of videos: equal to the baseline, and no more memory for longer videos."""

import importlib
import sys

import numpy as np
import pytest
import torch
from pycocotools import mask as rle

ONE_CLIP = ("MODEL.MASK_FORMER.TEST.CLIP_FRAMES", 0)


@pytest.fixture
def bench(repository, monkeypatch):
    """The scripts import each other by name, as they do when they are run."""
    monkeypatch.syspath_prepend(str(repository / "bench"))
    monkeypatch.delitem(sys.modules, "video", raising=False)
    return importlib.import_module("video")


@pytest.mark.parametrize("task", ["instance", "semantic"])
def test_baseline_predictions_are_ours(bench, task: str) -> None:
    model = bench.build(task, [*ONE_CLIP, "TEST.SEM_SEG_OUTPUT", "scores"])
    item = {"image": bench.Noise(3, 64)}
    ours, baseline = model([item])[0], bench.baseline_video(model, item)
    if task == "semantic":
        torch.testing.assert_close(ours["sem_seg"], baseline["sem_seg"], rtol=1e-4, atol=1e-5)
        return
    assert ours["pred_scores"] == pytest.approx(baseline["pred_scores"].tolist())
    assert ours["pred_labels"] == baseline["pred_labels"].tolist()
    masks = [[rle.decode(mask) for mask in track] for track in ours["pred_masks"]]
    assert (np.array(masks) != baseline["pred_masks"].numpy()).mean() < 1e-4


@pytest.mark.parametrize("way", ["ours", "baseline"])
@pytest.mark.parametrize("task", ["instance", "semantic"])
def test_every_way_is_measured(bench, way: str, task: str) -> None:
    found = bench.measure(task, way, 3, side=64)
    assert found.seconds > 0 and found.memory >= 0


@pytest.mark.slow
@pytest.mark.parametrize("task", ["instance", "semantic"])
def test_memory_does_not_grow_with_the_video(bench, task: str, monkeypatch) -> None:
    """Four times the frames take at most a quarter more: the tracks; the baseline grows at once."""
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "")  # to be as it was afterwards
    short, long = (bench.measure_alone(task, "ours", number, side=96) for number in (32, 128))
    baseline = bench.measure_alone(task, "baseline", 128, side=96)
    assert long.memory < 1.25 * short.memory < baseline.memory


def test_a_table_is_printed(bench, capsys, monkeypatch) -> None:
    args = bench.parse_arguments(["--frames", "8", "512", "--tasks", "instance"])

    def measured(task: str, way: str, number: int):
        return None if way == "baseline" and number == 512 else bench.Measured(0.25, 3e6 * number)

    monkeypatch.setattr(bench, "measure_alone", measured)
    bench.table("instance", args)
    lines = [row.split() for row in capsys.readouterr().out.splitlines()[2:]]
    assert lines == [
        ["8", "24", "250.0", "24", "250.0"],
        ["512", "1536", "250.0", "does", "not", "fit"],
    ]
