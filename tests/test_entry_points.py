"""Every program has --help without warnings, and ends with one line on Ctrl-C."""

import ast
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
    """Nothing on the error stream: no warnings of libraries as they are imported."""
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / program), "--help"],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: ")
    assert done.stderr == ""


@pytest.mark.parametrize("program", sorted({*PROGRAMS} - {"tools/oldest.py"}))
def test_interrupts_are_handled_before_other_imports(program):
    body = ast.parse((REPOSITORY / program).read_text()).body
    first = next(node for node in body if isinstance(node, ast.Import | ast.ImportFrom))
    assert ast.unparse(first) == "import catrank.interrupts"


@pytest.mark.parametrize(
    ("statement", "code", "error"),
    [
        ("raise KeyboardInterrupt", 130, "interrupted\n"),
        ("assert not {'torch', 'numpy', 'detectron2'} & sys.modules.keys()", 0, ""),
        ("raise SystemExit('bye')", 1, "bye\n"),
    ],
)
def test_an_interrupt_while_loading_is_one_line(statement, code, error):
    done = subprocess.run(
        [sys.executable, "-c", f"import catrank.interrupts, sys; {statement}"],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (code, error)


def test_other_errors_are_shown():
    command = "import catrank.interrupts; 1 / 0"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True)
    assert done.returncode == 1 and "ZeroDivisionError" in done.stderr
