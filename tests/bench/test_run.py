"""The benchmark goes on where one of its lines does not fit the memory."""

import importlib.util
import math
import os
import signal

import pytest


@pytest.fixture(scope="module")
def bench(repository):
    spec = importlib.util.spec_from_file_location("bench_run", repository / "bench" / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_process_that_the_system_kills_has_no_result(bench):
    assert bench.alone(math.sqrt, 9) == 3
    assert bench.alone(signal.raise_signal, signal.SIGKILL) is None
    assert bench.alone(os.getpid) != os.getpid()


def test_its_line_says_so_and_the_others_are_measured(bench, monkeypatch, capsys):
    def alone(measure, case):
        return bench.Measured(1, 2, 3) if case.chunk else None

    monkeypatch.setattr(bench, "alone", alone)
    monkeypatch.setattr("sys.argv", ["run.py", "--vocabularies", "voc20"])
    bench.main()
    at_once, chunked = capsys.readouterr().out.splitlines()[-2:]
    assert "at once" in at_once and at_once.endswith("out of memory")
    assert chunked.split()[-3:] == ["1.00", "2.00", "3.00"]
