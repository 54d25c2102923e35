"""Throughput and memory of labelling."""

import importlib
import math
import os

import pytest

from segcore.errors import UserError

pyarrow = pytest.importorskip("pyarrow", reason="labels are Parquet: pip install -e .[scale]")
parquet = pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def bench(repository, monkeypatch):
    monkeypatch.syspath_prepend(str(repository / "bench"))
    return importlib.import_module("label")


def test_a_line_for_the_model_and_for_each_engine(bench, capsys) -> None:
    words = "--images 3 --size 32 --workers 1 --engines local --seconds 0 --batch-size 2"
    bench.measure(bench.parse_arguments(words.split()))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("model alone, 1 worker")
    assert any(line.startswith("local, 1 workers") and "images/s" in line for line in lines)


@pytest.mark.parametrize("words", ["--images 0", "--workers 0", "--batch-size 0"])
def test_numbers_out_of_range(bench, words) -> None:
    with pytest.raises(UserError, match="takes 1 or more"):
        bench.parse_arguments(words.split())


def test_the_rate_between_the_first_shards_and_the_last(bench, tmp_path) -> None:
    (tmp_path / "labels").mkdir()
    # Two workers: shards of 5 rows end at 10 and 11 seconds, then others at 16 and 18.
    for number, (rows, ended) in enumerate([(5, 10), (5, 11), (5, 16), (2, 18)]):
        path = tmp_path / "labels" / f"part-{number}.parquet"
        parquet.write_table(pyarrow.table({"key": ["image"] * rows}), path)
        os.utime(path, (ended, ended))
    assert bench.rate_between(tmp_path, workers=2) == (5 + 2) / (18 - 11)
    assert math.isnan(bench.rate_between(tmp_path, workers=4))
