"""`make PYTHON=...` names the packages that a target needs and the interpreter lacks."""

import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")


def make(repository, *arguments: str) -> subprocess.CompletedProcess:
    command = ["make", "-C", str(repository), *arguments]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("target", "needs"),
    [
        ("demo", {"torch", "torchvision", "ftfy", "skimage"}),
        ("test", {"torch", "skimage", "pytest", "xdist", "pytest_timeout"}),
        ("test-slow", {"torch", "pytest"}),
        ("lint", {"ruff"}),
        ("docs", {"torch", "material", "mkdocstrings"}),
    ],
)
def test_the_needs_of_a_target_are_checked(repository, target, needs):
    dry = make(repository, "-n", "PYTHON=python", target)
    (line,) = [line for line in dry.stdout.splitlines() if "find_spec" in line]
    assert needs <= set(line.split('"')[3].split())


def test_missing_packages_are_named(repository):
    done = make(repository, "check", f"PYTHON={sys.executable}", "NEEDS=json no_such_package sys")
    assert done.returncode != 0
    assert f"error: {sys.executable} lacks no_such_package: {sys.executable} -m pip" in done.stderr
    assert "Traceback" not in done.stderr


def test_set_up_logs_the_output_of_pip(repository):
    dry = make(repository, "-n", "-W", "pyproject.toml", ".venv/complete")
    (line,) = [line for line in dry.stdout.splitlines() if "-e '.[test,dev,demo]'" in line]
    assert '>"$log" 2>&1' in line and ">>.venv/setup.log" in line
