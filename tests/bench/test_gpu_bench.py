"""bench/gpu.sh on the CPU: parts do not end each other, and each has its time."""

import importlib
import json
import os
import subprocess
import sys

import pytest


@pytest.fixture
def gpu(repository, monkeypatch):
    monkeypatch.syspath_prepend(str(repository / "bench"))
    return importlib.import_module("gpu")


def test_all_parts_fit_eight_minutes(gpu):
    assert sum(part.seconds for part in gpu.PARTS.values()) <= 460  # and 20 to install


def test_a_part_that_fails_or_hangs_says_so(gpu, tmp_path, monkeypatch):
    line = {"way": "ours", "images/s": "1.00"}
    script = "import json, sys, time; print(json.dumps({}), file=open(sys.argv[1], 'w')); {}"
    parts = {
        "fails": gpu.Part(["-c", script.format(line, "sys.exit('no kernel')"), "{log}"], 60),
        "hangs": gpu.Part(["-c", script.format(line, "time.sleep(600)"), "{log}"], 600),
        "works": gpu.Part(["-c", script.format(line, "pass"), "{log}"], 60),
    }
    parts["hangs"] = gpu.Part(parts["hangs"].command, 5)
    monkeypatch.setattr(gpu, "PARTS", parts)
    done = {name: gpu.run(name, tmp_path, 1.0, dry=False) for name in parts}
    assert done["fails"].outcome == "FAILED (exit status 1)"
    assert done["hangs"].outcome == "OUT OF TIME (5 s)"
    assert done["works"].outcome == "done" and done["works"].lines == [line]
    text = gpu.table("fails", done["fails"], "no kernel")
    assert "no kernel" in text and "| ours | 1.00 |" in text


@pytest.mark.slow
def test_dry_run(repository, tmp_path):
    environment = {**os.environ, "OUT": str(tmp_path), "PYTHON": sys.executable}
    command = ["bash", "bench/gpu.sh", "--dry-run", "--scale", "4"]
    done = subprocess.run(
        command, cwd=repository, env=environment, capture_output=True, text=True, check=False
    )
    report = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert done.returncode == 0, done.stderr + report
    assert [line.split(":")[0] for line in report.splitlines() if line.startswith("## ")] == [
        "## tests",
        "## catseg-b",
        "## catseg-l",
        "## encoders",
        "## mask2former",
        "## per-pixel",
        "## groupvit",
    ]
    lines = [json.loads(x) for x in (tmp_path / "catseg-b.jsonl").read_text().splitlines()]
    precisions = ("float32", "tf32", "bf16")
    assert [(x["way"], x["precision"]) for x in lines] == [
        *(("ours", name) for name in precisions),
        ("ours, 4 kept", "bf16"),
        *(("baseline", name) for name in precisions),
    ]
    assert lines[1]["other labels"] == "0.00%"  # a CPU knows no TF32
    for name in ("encoders", "mask2former", "per-pixel", "groupvit"):
        lines += [json.loads(x) for x in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
    ours = [line for line in lines if line.get("way") != "transformers"]
    assert all(float(line["images/s"]) > 0 for line in ours)
