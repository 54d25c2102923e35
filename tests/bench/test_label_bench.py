"""Throughput and memory of labelling."""

import importlib

import pytest

from segcore.errors import UserError

pytest.importorskip("pyarrow", reason="labels are Parquet: pip install -e .[scale]")


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
