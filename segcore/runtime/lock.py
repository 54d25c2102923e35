"""Lock an output folder, so that one run at a time writes there.

The file ``run.lock`` names the process that holds it; that process renews the file's modification
time as a heartbeat. A lock whose process has ended on this machine is void at once. A process on
another machine, or in another container, counts as ended when its heartbeat stops.
"""

import atexit
import json
import logging
import os
import signal
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from segcore.errors import UserError, printable
from segcore.runtime.files import PARTIAL

NAME = "run.lock"
HEARTBEAT = 30.0  # seconds between two heartbeats
EXPIRY = 300.0  # seconds without heartbeat after which a process elsewhere counts as ended
MAX_WAIT = EXPIRY + 60  # seconds that a resuming run waits for the previous one to end
POLL = 2.0  # seconds between two attempts

logger = logging.getLogger(__name__)
_held: dict[Path, "_Heartbeat"] = {}


@dataclass(frozen=True)
class Holder:
    """The process that holds a lock.

    Attributes:
        host: the machine's host name.
        machine: identifies the machine, its boot and its container.
        pid: of the process.
        started: its start time, which distinguishes it from a later process with the same pid.
    """

    host: str
    machine: str
    pid: int
    started: str

    @classmethod
    def this_process(cls) -> "Holder":
        """Return the calling process."""
        return cls(socket.gethostname(), _machine(), os.getpid(), process_start(os.getpid()) or "")

    def lives(self) -> bool | None:
        """Return whether the process is running; None if unknown, since it runs elsewhere."""
        if self.machine != _machine():
            return None
        return process_start(self.pid) == self.started


def hold(
    folder: str | os.PathLike,
    what: str,
    *,
    wait: bool = False,
    now: Callable[[Path], float] | None = None,
    pause: Callable[[float], object] = time.sleep,
) -> None:
    """Hold the lock of a folder until :func:`release` or the end of the program.

    The folder is created if absent. A process that holds the lock already keeps it.

    Args:
        folder: of the results of a run.
        what: the config key or option that names it; messages begin with it.
        wait: wait for another run that is about to end, at most :data:`MAX_WAIT` seconds.
        now: returns the time in seconds by the clock of the folder's modification times.
        pause: sleeps some seconds.

    Raises:
        UserError: another run holds it, or the folder cannot be written.
    """
    what = f"{what} {printable(folder)}"
    folder = Path(folder).resolve()
    if folder in _held:
        return
    now = now or _folder_time
    try:
        folder.mkdir(parents=True, exist_ok=True)
        end = None
        while not _take(folder, now):
            if not wait:
                raise UserError(
                    f"{what} {_in_use(folder)}: name another folder, or end that run first"
                )
            if end is None:
                end = now(folder) + MAX_WAIT
                logger.warning("%s %s: waiting for it to end", what, _in_use(folder))
            elif now(folder) >= end:
                raise UserError(
                    f"{what} {_in_use(folder)}, which has not ended: name another folder"
                )
            pause(POLL)
    except OSError as error:
        raise UserError(f"{what} cannot be written: {error.strerror}") from error
    _held[folder] = _Heartbeat(folder / NAME)


def release() -> None:
    """Release the locks that this process holds."""
    while _held:
        _, heartbeat = _held.popitem()
        heartbeat.stop()


atexit.register(release)


def process_start(pid: int) -> str | None:
    """Return the start time of a process of this machine; None if it does not run."""
    try:
        # man 5 proc: after the name in brackets come the state and, 19 fields later, the start.
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if state in "ZX" else fields[18]
    except FileNotFoundError:
        pass
    if Path("/proc/self/stat").exists():
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return ""  # this system does not report start times


@cache
def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115  no path
    except OSError:
        return f"{socket.gethostname()} {uuid.getnode()}"


def _take(folder: Path, now: Callable[[Path], float]) -> bool:
    """Try to take the lock, removing a void one first; return whether it was taken."""
    path = folder / NAME
    holder, heartbeat = _read(path)
    if heartbeat is not None:
        lives = None if holder is None else holder.lives()
        if lives or (lives is None and now(folder) - heartbeat < EXPIRY):
            return False
        logger.warning("Replacing the lock of a run that was killed, %s", path)
        _remove(path, holder)
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    except FileExistsError:  # another run was faster
        return False
    with os.fdopen(descriptor, "w") as file:
        json.dump(asdict(Holder.this_process()), file)
    return True


def _remove(path: Path, holder: Holder | None) -> None:
    """Remove the lock of a holder, but not a lock that another run has created since."""
    aside = path.with_name(f"{PARTIAL}{uuid.uuid4().hex}")
    with suppress(FileNotFoundError):
        path.rename(aside)
        if _read(aside)[0] != holder:
            aside.rename(path)
        aside.unlink(missing_ok=True)


def _read(path: Path) -> tuple[Holder | None, float | None]:
    """Return the holder (None if unknown) and the time of its heartbeat (None without a lock)."""
    try:
        heartbeat = path.lstat().st_mtime
    except FileNotFoundError:
        return None, None
    try:
        holder = Holder(**json.loads(path.read_text("utf-8")))
        return (holder if isinstance(holder.pid, int) else None), heartbeat
    except (ValueError, TypeError, OSError):  # being written just now, or no lock of ours
        return None, heartbeat


def _in_use(folder: Path) -> str:
    holder, _ = _read(folder / NAME)
    who = "another run"
    if holder is not None:
        who = f"the run of process {printable(holder.pid)} on {printable(holder.host)}"
    return f"is in use by {who}"


def _folder_time(folder: Path) -> float:
    """Return the time by the clock of the folder's file system, perhaps of another machine."""
    with tempfile.TemporaryFile(dir=folder) as file:
        return os.fstat(file.fileno()).st_mtime


class _Heartbeat:
    """Renew a lock's modification time, in a thread, until stopped."""

    def __init__(self, path: Path) -> None:
        self.path, self.holder = path, Holder.this_process()
        self._stopped = threading.Event()
        threading.Thread(target=self._beat, name="run.lock", daemon=True).start()

    def _beat(self) -> None:
        while not self._stopped.wait(HEARTBEAT):
            with suppress(OSError):  # a disk that is unavailable for a while
                self.renew()

    def renew(self) -> None:
        """Renew the lock once.

        A run that lost its lock, for example after it was suspended for minutes, ends itself, since
        two runs would write to one folder.
        """
        holder, _ = _read(self.path)
        if holder == self.holder:
            os.utime(self.path)
        elif holder is not None:
            folder = self.path.parent
            logger.error("%s %s while this one was silent: it ends", folder, _in_use(folder))
            os.kill(os.getpid(), signal.SIGTERM)

    def stop(self) -> None:
        """Remove the lock, unless this process is a fork of the one that holds it."""
        self._stopped.set()
        if self.holder.pid == os.getpid() and _read(self.path)[0] == self.holder:
            self.path.unlink(missing_ok=True)
