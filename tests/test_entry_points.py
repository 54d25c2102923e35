"""Every program explains itself, and says nothing else."""

import os
import subprocess
import sys

import pytest

PROGRAMS = [
    "train_net.py",
    "bench/run.py",
    "datasets/prepare_scenes.py",
    "demo/demo.py",
    "demo/run_demo.py",
    "tools/analyze.py",
    "tools/convert_clip.py",
    "tools/nearest_colour.py",
]


@pytest.mark.parametrize("program", PROGRAMS)
def test_help(repository, program):
    """Nothing on the error stream: warnings of libraries as they are loaded help nobody."""
    done = subprocess.run(
        [sys.executable, str(repository / program), "--help"],
        env=os.environ | {"PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: ")
    assert done.stderr == ""
