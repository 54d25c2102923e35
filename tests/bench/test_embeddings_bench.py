"""The benchmark of ESSNet by the number of classes: its rows, and the bytes that it computes."""

import importlib
import sys

import pytest
import torch

from segcore.errors import UserError


@pytest.fixture
def bench(repository, monkeypatch):
    """The scripts import each other by name, as they do when they are run."""
    monkeypatch.syspath_prepend(str(repository / "bench"))
    return importlib.import_module("embeddings")


@pytest.mark.parametrize("way", ["softmax", "exact", "faiss", "clusters"])
def test_every_way_is_measured(bench, way: str) -> None:
    if way in ("faiss", "clusters"):
        pytest.importorskip("faiss", reason="faiss is not installed: extra `faiss`")
    row = bench.measure(way, 40)
    assert row.step > 0 and row.again > 0 and row.held > 0
    assert way == "clusters" or (row.equal == 1.0 and row.errors == 0.0)


def test_wrong_labels_are_errors(bench) -> None:
    model = bench.build("exact", 40, training=False)
    items = bench.inputs(model, training=False)
    labels = torch.zeros(2 * bench.SIDE**2, dtype=torch.long)
    with torch.no_grad():
        best, products = bench.exact_labels(model, items, labels)
        found = torch.stack([item["sem_seg_labels"] for item in model(items)]).flatten()
    assert torch.equal(best.indices, found)
    assert ((products < best.values - bench.ROUNDING) == (found != 0)).all() and (found != 0).any()


def test_the_table_says_what_did_not_run(bench, monkeypatch, capsys) -> None:
    asked = []

    def in_turn(cases, runs):
        asked.extend(cases.values())
        return {way: bench.Row(1, 2e6, 3e6, 4, 5, 6e6, 0.5, 0.25) for way in cases}, 1e9

    monkeypatch.setattr(bench, "in_turn", in_turn)
    arguments = "--classes 150 100000 --ways softmax exact --runs 1 --memory 5"
    monkeypatch.setattr(sys, "argv", ["embeddings.py", *arguments.split()])
    bench.main()
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["150", "softmax", "1.00", "2", "3.0", "4.00", "5.00", "6"] in rows
    numbers = ["1.00", "2", "3.0", "4.00", "5.00", "6", "50.000", "%", "25.000", "%"]
    assert ["100000", "exact", *numbers] in rows
    megabytes = f"{bench.softmax_bytes(100_000) / 1e6:,.0f}"
    assert ["100000", "softmax", *f"not run: a step needs {megabytes} MB, computed".split()] in rows
    assert [arguments[1:] for arguments in asked] == [
        ("softmax", 150),
        ("exact", 150),
        ("exact", 100_000),
    ]
    # A map of all classes at a quarter of the size and its gradient, three at the size itself.
    assert bench.softmax_bytes(1) == 4 * (2 * 2 * 16**2 + 3 * 2 * 64**2 + 3 * 257)


@pytest.mark.parametrize("arguments", [["--classes", "7"], ["--runs", "0"]])
def test_wrong_arguments_are_user_errors(bench, arguments: list[str]) -> None:
    with pytest.raises(UserError, match=r"--(classes|runs)"):
        bench.parse_arguments(arguments)
