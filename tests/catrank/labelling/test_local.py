"""Labels of one process: rows are those of Model.segment, reruns resume to the same bytes."""

import errno
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as library

import catrank
from catrank.cli import main
from catrank.labelling import label, local, read_labels, shards
from segcore.errors import UserError
from segcore.images import read_labels as read_label_png

LOADING = {"model": "scenes-60-panoptic", "device": "cpu"}
SIZES = {"batch_size": 2, "shard_size": 4}


def run(photos: Path, output: Path, **options) -> dict:
    return label([str(photos)], output, **{"loading": LOADING, "workers": 1, **SIZES, **options})


@pytest.fixture(scope="module")
def model() -> catrank.Model:
    return catrank.load(**LOADING)


@pytest.fixture(autouse=True)
def loaded_once(model, monkeypatch) -> None:
    """Models of default options are loaded once for all tests."""
    load = catrank.load
    monkeypatch.setattr(
        "catrank.labelling.run.load", lambda **named: model if named == LOADING else load(**named)
    )


def test_rows_are_the_results_of_images(photos, tmp_path, model) -> None:
    out = tmp_path / "out"
    manifest = run(photos, out, label_png=True)
    assert (manifest["images"], manifest["errors"]) == (11, 2)
    assert [shard["rows"] for shard in manifest["shards"]] == [4, 4, 3]
    found = [*read_labels(out)]
    for labels in found:
        if labels.error is not None:
            assert labels.key in ("2b.jpg", "empty.png") and labels.key in labels.error
            assert labels.segments == [] and labels.size == (0, 0)
            continue
        result = model.segment(photos / labels.key)
        assert labels.size == result.size and len(labels.segments) == len(result)
        assert labels.row["class_ids"] == sorted({*result.class_ids.tolist()})
        for index, segment in enumerate(labels.segments):
            mask = result.mask(index)
            assert (labels.mask(index) == mask).all()
            rle = {"size": [*labels.size], "counts": segment["rle"]}
            assert (library.decode(rle) == mask).all()
            assert segment["area"] == mask.sum()
            assert segment["is_thing"] == result.segments[index].is_object
        assert (labels.class_map() == result.labels).all()
        stored = read_label_png(out / labels.row["label_png"]).astype(np.int32)
        assert (np.where(stored == 65535, -1, stored) == result.labels).all()
    assert [labels.key for labels in found][-2:] == ["more/7.png", "more/8.png"]


def test_workers_and_reruns_give_the_same_bytes(photos, tmp_path, files) -> None:
    run(photos, tmp_path / "one", label_png=True)
    run(photos, tmp_path / "two", label_png=True, workers=2)
    expected = files(tmp_path / "one")
    assert "run.lock" not in expected and expected == files(tmp_path / "two")
    # Shards that are absent, damaged or of another run are made again, and no other.
    labels = tmp_path / "two" / "labels"
    (labels / "part-000000.parquet").unlink()
    (labels / "part-000001.parquet").write_bytes(b"damaged")
    (labels / ".part-1234.parquet").write_bytes(b"half")
    kept = (labels / "part-000002.parquet").stat()
    run(photos, tmp_path / "two", label_png=True)
    assert files(tmp_path / "two") == expected
    assert (labels / "part-000002.parquet").stat() == kept


def test_an_interrupted_run_resumes(photos, tmp_path, files, monkeypatch) -> None:
    run(photos, tmp_path / "whole")
    segment, calls = shards._segment, []

    def interrupted(model, images):
        calls.append(len(images))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return segment(model, images)

    monkeypatch.setattr(shards, "_segment", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(photos, tmp_path / "out")
    assert len([*(tmp_path / "out" / "labels").iterdir()]) == 1
    with pytest.raises(UserError, match="let the same catrank label finish"):
        [*read_labels(tmp_path / "out")]
    run(photos, tmp_path / "out")
    assert sum(calls) == 4 + 4 + 7 and files(tmp_path / "out") == files(tmp_path / "whole")


def test_another_model_vocabulary_or_source_is_refused(photos, tmp_path, files) -> None:
    run(photos, tmp_path / "out")
    before = files(tmp_path / "out")
    others = {"loading": LOADING | {"model": "scenes-60-rankseg"}}, {"batch_size": 3}
    for other, message in zip(others, ("another model", "another --batch-size"), strict=True):
        with pytest.raises(UserError, match=message):
            run(photos, tmp_path / "out", **other)
    (photos / "0.png").unlink()
    with pytest.raises(UserError, match="other images"):
        run(photos, tmp_path / "out")
    assert files(tmp_path / "out") == before


def test_a_full_disk_is_one_message(photos, tmp_path, files, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("segcore.runtime.files.os.fsync", full)
        with pytest.raises(UserError, match="No space left on device"):
            run(photos, tmp_path / "out")
    assert not [name for name in files(tmp_path / "out") if ".part-" in name]
    run(photos, tmp_path / "out")
    run(photos, tmp_path / "whole")
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_a_batch_that_fails_is_segmented_one_by_one(photos, tmp_path, model, monkeypatch) -> None:
    forward = model.network.forward

    def small(inputs):
        if len(inputs) > 1 or inputs[0]["width"] == 40:
            raise torch.OutOfMemoryError("no\nmemory")
        return forward(inputs)

    monkeypatch.setattr(model.network, "forward", small)
    assert run(photos, tmp_path / "out")["errors"] == 2 + 4
    errors = {labels.key: labels.error for labels in read_labels(tmp_path / "out")}
    assert errors["0.png"] is None
    assert errors["1.png"] == r"the model fails on this image (OutOfMemoryError: no\nmemory)"


def test_classes_of_ranked_models_and_scores(photos, tmp_path) -> None:
    loading = {"model": "scenes-60", "device": "cpu", "classes": ["sky", "grass"]}
    run(photos, tmp_path / "out", loading=loading)
    first = next(read_labels(tmp_path / "out"))
    assert {*first.row["class_names"]} <= {"sky", "grass"}
    assert all(0 < segment["score"] <= 1 for segment in first.segments)
    assert sum(segment["area"] for segment in first.segments) == 32 * 32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "spark"}, "use 'ray' or 'local'"),
        ({"address": "auto"}, "leave it out with --engine local"),
        ({"workers": 0}, "--workers is 0"),
        ({"shard_size": -1}, "--shard-size is -1"),
    ],
)
def test_options_that_cannot_be_used(photos, tmp_path, options, message) -> None:
    with pytest.raises(UserError, match=message):
        run(photos, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_an_output_address_is_refused(photos) -> None:
    with pytest.raises(UserError, match="committed by rename"):
        label([str(photos)], "s3://bucket/out", loading=LOADING)


def test_threads_are_those_of_before(photos, tmp_path, monkeypatch) -> None:
    used = []
    label_shard = local.label_shard

    def record(*arguments, **options):
        used.append(torch.get_num_threads())
        return label_shard(*arguments, **options)

    monkeypatch.setattr(local, "label_shard", record)
    before = torch.get_num_threads()
    run(photos, tmp_path / "out", threads=2)
    assert {*used} == {2} and torch.get_num_threads() == before


def test_the_command(photos, tmp_path, capsys, monkeypatch) -> None:
    Image.new("RGB", (20, 20)).save(photos / "<b>.png")
    line = ["label", str(photos), "--engine", "local", "--output", str(tmp_path / "out")]
    line += ["--model", "scenes-60-panoptic", "--device", "cpu", "--workers", "1"]
    assert main(line) == 1
    printed = capsys.readouterr()
    assert "10 of 12 images labelled" in printed.out
    assert "failed: 2 images" in printed.err
    monkeypatch.setitem(sys.modules, "ray", None)
    line[3] = "ray"
    line[5] = str(tmp_path / "other")
    with pytest.raises(SystemExit) as stop:
        main(line)
    assert stop.value.code == 2
    assert "pip install 'catrank[scale]', or add --engine local" in capsys.readouterr().err
