"""One run at a time in an output folder."""

import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from segcore.errors import UserError
from segcore.runtime import lock
from segcore.runtime.lock import EXPIRY, MAX_WAIT, NAME, Holder, hold, process_start, release

PROGRAM = """
import sys
from segcore.runtime.lock import hold

hold(sys.argv[1], "--output")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def released():
    release()  # what other tests of this process hold
    yield
    release()


@pytest.fixture
def other(repository, tmp_path):
    """A process that holds the lock of tmp_path until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        cwd=repository,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


class Clock:
    """Stands still but for what somebody waits; ``then`` happens after the first wait."""

    def __init__(self, beat: float, then=lambda: None) -> None:
        self.time, self.then = beat, then

    def now(self, folder: Path) -> float:
        return self.time

    def pause(self, seconds: float) -> None:
        self.time += seconds
        self.then()
        self.then = lambda: None


def write(folder: Path, **changes: object) -> float:
    """The lock of another process, as it was left; its last sign of life."""
    (folder / NAME).write_text(json.dumps(asdict(replace(Holder.this_process(), **changes))))
    return (folder / NAME).lstat().st_mtime


def holder(folder: Path) -> dict:
    return json.loads((folder / NAME).read_text())


def test_who_holds_it(tmp_path: Path) -> None:
    hold(tmp_path / "a", "--output")
    hold(tmp_path / "a", "--output")
    assert holder(tmp_path / "a") == asdict(Holder.this_process())
    release()
    assert not list((tmp_path / "a").iterdir())


def test_a_second_run_is_refused(tmp_path: Path, other: subprocess.Popen) -> None:
    who = rf"^--output .* is in use by the run of process {other.pid} on {socket.gethostname()}"
    with pytest.raises(UserError, match=who):
        hold(tmp_path, "--output")
    release()
    assert holder(tmp_path)["pid"] == other.pid, "it is theirs"


def test_it_is_free_after_the_end(tmp_path: Path, other: subprocess.Popen) -> None:
    other.communicate()
    assert not (tmp_path / NAME).exists()
    hold(tmp_path, "--output")


def test_a_killed_run_holds_nothing(tmp_path: Path, other: subprocess.Popen) -> None:
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert (tmp_path / NAME).exists()
    hold(tmp_path, "--output")
    assert holder(tmp_path)["pid"] == os.getpid()


def test_a_dead_process_that_is_a_zombie(tmp_path: Path, other) -> None:
    """Within containers the parent may never reap it."""
    other.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
    hold(tmp_path, "--output")


@pytest.mark.skipif(not process_start(os.getpid()), reason="needs a system with start times")
def test_a_number_that_another_process_has_now(tmp_path: Path) -> None:
    write(tmp_path, started="1")
    hold(tmp_path, "--output")


@pytest.mark.parametrize("silent", [0, EXPIRY - 1, EXPIRY])
def test_elsewhere_a_missing_heartbeat_counts(tmp_path: Path, silent: float) -> None:
    clock = Clock(write(tmp_path, machine="another", host="node7", pid=1) + silent)
    if silent < EXPIRY:
        with pytest.raises(UserError, match="process 1 on node7"):
            hold(tmp_path, "--output", now=clock.now)
    else:
        hold(tmp_path, "--output", now=clock.now)
        assert holder(tmp_path)["pid"] == os.getpid()


def test_here_a_missing_heartbeat_does_not_count(tmp_path: Path) -> None:
    clock = Clock(write(tmp_path) + 10 * EXPIRY)
    with pytest.raises(UserError, match="is in use"):
        hold(tmp_path, "--output", now=clock.now)


@pytest.mark.parametrize("content", ["", "[]", '{"pid": 1}', "\udcff"])
def test_a_lock_without_a_holder(tmp_path: Path, content: str) -> None:
    (tmp_path / NAME).write_bytes(os.fsencode(content))
    clock = Clock((tmp_path / NAME).stat().st_mtime)
    with pytest.raises(UserError, match="is in use by another run"):
        hold(tmp_path, "--output", now=clock.now)
    clock.time += EXPIRY
    hold(tmp_path, "--output", now=clock.now)


def test_resuming_waits_for_the_end(tmp_path: Path, caplog) -> None:
    clock = Clock(write(tmp_path, machine="another"), (tmp_path / NAME).unlink)
    hold(tmp_path, "--output", wait=True, now=clock.now, pause=clock.pause)
    assert holder(tmp_path)["machine"] != "another" and "waiting for it to end" in caplog.text


def test_resuming_waits_for_the_heartbeat_to_stop(tmp_path: Path) -> None:
    """A machine that was lost says no more."""
    clock = Clock(beat := write(tmp_path, machine="another"))
    hold(tmp_path, "--output", wait=True, now=clock.now, pause=clock.pause)
    assert EXPIRY <= clock.time - beat < EXPIRY + 10


def test_resuming_does_not_wait_for_ever(tmp_path: Path) -> None:
    clock = Clock(beat := write(tmp_path))
    with pytest.raises(UserError, match="which has not ended"):
        hold(tmp_path, "--output", wait=True, now=clock.now, pause=clock.pause)
    assert clock.time - beat >= MAX_WAIT


def test_heartbeats(tmp_path: Path) -> None:
    hold(tmp_path, "--output")
    os.utime(tmp_path / NAME, (0, 0))
    (heartbeat,) = lock._held.values()
    heartbeat.renew()
    assert (tmp_path / NAME).stat().st_mtime > 0


def test_a_run_that_lost_its_lock_ends(tmp_path: Path, monkeypatch) -> None:
    hold(tmp_path, "--output")
    (heartbeat,) = lock._held.values()
    write(tmp_path, machine="another", pid=5)
    sent = []
    monkeypatch.setattr(os, "kill", lambda *words: sent.append(words))
    heartbeat.renew()
    assert sent == [(os.getpid(), signal.SIGTERM)]
    release()
    assert holder(tmp_path)["pid"] == 5


def test_a_lock_that_was_taken_meanwhile_stays(tmp_path: Path) -> None:
    """Two runs find the same void lock, and one of them is slow."""
    void = replace(Holder.this_process(), started="1")
    hold(tmp_path, "--output")
    lock._remove(tmp_path / NAME, void)
    assert holder(tmp_path) == asdict(Holder.this_process())
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / NAME).symlink_to(tmp_path / "theirs")
    with pytest.raises(UserError, match="is in use"):
        hold(tmp_path / "run", "--output")
    assert not (tmp_path / "theirs").exists()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"^--output .*file.run cannot be written"):
        hold(tmp_path / "file/run", "--output")
