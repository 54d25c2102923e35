"""Time and memory against the number of kept classes and the size of the vocabulary."""

import importlib

import pytest

from segcore.errors import UserError


@pytest.fixture
def bench(repository, monkeypatch):
    monkeypatch.syspath_prepend(str(repository / "bench"))
    return importlib.import_module("rank_dial")


def test_a_row_for_each_selector(bench, monkeypatch, capsys) -> None:
    def in_turn(cases: dict, runs: int) -> tuple[dict, float]:
        return {name: function(*arguments) for name, (function, *arguments) in cases.items()}, 1.0

    monkeypatch.setattr(bench, "in_turn", in_turn)
    words = "--config-file catseg_d2/scenes_60.yaml --words 3 --kept 2 --size 96"
    bench.table(bench.parse_arguments(words.split()))
    _, *rows = (line.split() for line in capsys.readouterr().out.splitlines())
    assert [row[:3] for row in rows] == [
        ["3", "published", "3"],
        ["3", "cosine", "2"],
        ["3", "ranking", "head"],
    ]
    assert rows[0][-1] == "1.00"


@pytest.mark.parametrize(
    "arguments", [["--words", "0"], ["--kept", "0"], ["--size", "1", "2", "3"], ["--runs", "0"]]
)
def test_numbers_out_of_range(bench, arguments: list[str]) -> None:
    with pytest.raises(UserError, match="takes"):
        bench.parse_arguments(arguments)
