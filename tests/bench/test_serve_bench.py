"""The load test counts requests, their seconds and their errors."""

import importlib

import pytest


def test_the_table_has_no_errors(repository, monkeypatch, capsys) -> None:
    for package in ("fastapi", "uvicorn", "httpx", "python_multipart"):
        pytest.importorskip(package, reason=f"{package} is not installed: extra serve")
    monkeypatch.syspath_prepend(str(repository / "bench"))
    bench = importlib.import_module("serve")
    bench.main(["--requests", "4", "--size", "48", "--clients", "1", "3"])
    _, _, alone, *rows = capsys.readouterr().out.splitlines()
    assert alone.startswith("model alone") and len(rows) == 2
    for row in rows:
        *_, rate, median, p95, errors = row.split()
        assert float(rate) > 0 and 0 < float(median) <= float(p95) and errors == "0"
