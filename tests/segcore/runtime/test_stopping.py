"""Ctrl-C and SIGTERM in one line."""

import os
import signal
import subprocess
import sys

import pytest

from segcore.errors import exit_on_user_error
from segcore.runtime.stopping import Terminated, interrupts_ignored, signals_as_exceptions

PROGRAM = """
import os, signal, sys
from segcore.errors import exit_on_user_error

with exit_on_user_error(": the same command goes on"):
    if sys.argv[1:] == ["fork"] and os.fork() == 0:
        print(f"ready\\n{os.getpid()}", flush=True)
        os.read(0, 1)  # the signal comes before it can end
        os._exit(7)
    if sys.argv[1:]:
        print(os.wait()[1], flush=True)
        sys.exit()
    print("ready", flush=True)
    while True:
        signal.pause()
"""
SIGNALS = [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")]


@pytest.fixture
def start(repository):
    running = []

    def start(*words: str) -> subprocess.Popen:
        pipe = subprocess.PIPE
        command = [sys.executable, "-c", PROGRAM, *words]
        streams = {"stdin": pipe, "stdout": pipe, "stderr": pipe, "text": True}
        running.append(subprocess.Popen(command, cwd=repository, **streams))
        assert running[-1].stdout.readline() == "ready\n"
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(("number", "said"), SIGNALS)
def test_one_line(start, number, said) -> None:
    process = start()
    process.send_signal(number)
    assert process.communicate()[1] == f"{said}: the same command goes on\n"
    assert process.returncode == 128 + number


def test_what_is_ignored_stays_ignored(start) -> None:
    with interrupts_ignored():
        process = start()
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    assert process.communicate()[1].startswith("terminated")


def test_torchrun_has_one_line_for_all(start, monkeypatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    process = start()
    process.send_signal(signal.SIGINT)
    assert process.communicate()[1] == "" and process.returncode == 130


def test_a_fork_leaves_it_to_its_parent(start) -> None:
    process = start("fork")
    os.kill(int(process.stdout.readline()), signal.SIGINT)
    assert process.communicate("x")[0] == f"{7 << 8}\n", "it went on"


def test_handlers_of_others_are_left_alone() -> None:
    seen = []
    before = signal.signal(signal.SIGTERM, lambda *_: seen.append(1))
    try:
        with signals_as_exceptions():
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [1]


def test_it_is_put_back() -> None:
    before = [signal.getsignal(number) for number, _ in SIGNALS]
    with pytest.raises(Terminated), signals_as_exceptions():
        signal.raise_signal(signal.SIGTERM)
    with pytest.raises(SystemExit), exit_on_user_error():
        signal.raise_signal(signal.SIGINT)
    assert [signal.getsignal(number) for number, _ in SIGNALS] == before
