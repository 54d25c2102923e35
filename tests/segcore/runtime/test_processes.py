"""The same function in several processes."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from segcore.errors import UserError
from segcore.runtime.processes import process_map


def square(number: int) -> int:
    return number**2


def die(number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_results_in_order(workers: int) -> None:
    with process_map(workers, items_at_once=2) as parallel_map:
        assert list(parallel_map(square, range(7))) == [0, 1, 4, 9, 16, 25, 36]


def test_a_killed_process_is_one_error_message() -> None:
    with pytest.raises(UserError, match="memory"), process_map(2) as parallel_map:
        list(parallel_map(die, range(2)))


PROGRAM = """
import sys, time
from segcore.runtime.processes import process_map

with process_map(2, items_at_once=1) as parallel_map:
    results = parallel_map(time.sleep, [0.01] + [0.2] * 3000)
    next(iter(results))
    print("running", flush=True)
    for _ in results:
        pass
"""


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_an_end_is_the_end(repository, end: signal.Signals) -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        cwd=repository,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert program.stdout.readline() == "running\n"
    program.send_signal(end)
    _, errors = program.communicate()  # ends only when no process holds the pipes
    assert program.returncode != 0
    assert errors.count("Traceback") <= 1, "the workers leave an interrupt to the parent"
    wait_for_group(program.pid)


def wait_for_group(group: int) -> None:
    """Return when the last process of the group has ended; pytest's time limit ends the wait."""
    while living(group):
        time.sleep(0.05)


def living(group: int) -> bool:
    """Return whether a process of the group is alive; a zombie, as in a container without an init,
    is not."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    if not Path("/proc/self/stat").exists():
        return True
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended meanwhile
            state, _, its_group, *_ = path.read_text().rpartition(")")[2].split()
            if int(its_group) == group and state not in "ZX":
                return True
    return False
