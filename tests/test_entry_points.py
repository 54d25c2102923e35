"""Every program explains itself, and says nothing else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PROGRAMS = [
    path.relative_to(REPOSITORY).as_posix()
    for pattern in ("*.py", "bench/*.py", "datasets/*.py", "demo/*.py", "tools/*.py")
    for path in sorted(REPOSITORY.glob(pattern))
    if "__main__" in path.read_text()
]


def test_the_programs_are_found():
    assert {"train_net.py", "demo/demo.py", "tools/analyze.py"} <= set(PROGRAMS)


@pytest.mark.parametrize("program", PROGRAMS)
def test_help(program):
    """Nothing on the error stream: warnings of libraries as they are loaded help nobody."""
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / program), "--help"],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: ")
    assert done.stderr == ""
