"""The benchmark of GroupViT: transformers and ours compute the same, its table is whole."""

import importlib

import pytest
import torch

from segcore.errors import UserError


@pytest.fixture
def bench(repository, monkeypatch):
    """The script, whose parts import each other by name; it measures in this process."""
    monkeypatch.syspath_prepend(str(repository / "bench"))
    measure = importlib.import_module("measure")
    monkeypatch.setattr(measure, "alone", lambda function, *arguments: function(*arguments))
    monkeypatch.setattr(measure, "product_rate", lambda: 1e11)
    return importlib.import_module("groupvit")


@torch.no_grad()
def test_transformers_compute_the_same(bench) -> None:
    """Images in evaluation mode, of the published size."""
    pytest.importorskip("transformers", reason="transformers is not installed: extra `bench`")
    _, ours = bench.forward_of("groupvit", "image", 2)
    _, theirs = bench.forward_of("transformers", "image", 2)
    found = theirs()
    found = getattr(found, "pooler_output", found)
    expected = torch.nn.functional.normalize(found, dim=-1)
    torch.testing.assert_close(ours(), expected, atol=1e-4, rtol=1e-4)


def test_the_table(bench, monkeypatch, capsys) -> None:
    found = bench.Measured(0.5, 1.5, 2e9)
    monkeypatch.setattr(bench, "measure", lambda *_: found)
    monkeypatch.setattr("sys.argv", ["groupvit.py", "--batch", "4", "--runs", "1"])
    bench.main()
    lines = capsys.readouterr().out.splitlines()
    row = "  mixreorg             2.00       0.50        1.50    2.00"
    assert row in lines
    assert sum(line.startswith("  groupvit ") for line in lines) == 2


def test_user_errors(bench) -> None:
    with pytest.raises(UserError, match="an even number"):
        bench.parse_arguments(["--batch", "3"])
    with pytest.raises(UserError, match="1 or more"):
        bench.parse_arguments(["--runs", "0"])
