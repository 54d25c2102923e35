"""A lock on an output folder: one run at a time writes there.

The file ``run.lock`` says which process holds it, and its time of change is renewed as long as that
lives. A lock whose process is gone from this machine is void at once; of a process on another
machine, or in another container, only its silence tells that it is gone.
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
from segcore.runtime.files import UNFINISHED

NAME = "run.lock"
BEAT = 30.0  # seconds between two signs of life
SILENCE = 300.0  # seconds without one, after which a process elsewhere is taken for gone
PATIENCE = SILENCE + 60  # seconds that a run which is to be resumed waits for the one before
PAUSE = 2.0  # seconds between two looks

logger = logging.getLogger(__name__)
_held: dict[Path, "_Heart"] = {}


@dataclass(frozen=True)
class Holder:
    """The process that holds a lock.

    Attributes:
        host: what people call its machine.
        machine: what tells machines, their starts and their containers apart.
        pid: of the process.
        started: when it was started, so that another process of that number is told from it.
    """

    host: str
    machine: str
    pid: int
    started: str

    @classmethod
    def this_process(cls) -> "Holder":
        """The process that asks."""
        return cls(socket.gethostname(), _machine(), os.getpid(), process_start(os.getpid()) or "")

    def lives(self) -> bool | None:
        """Whether the process goes on; None where that cannot be told, since it is elsewhere."""
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
    """Hold the lock of a folder, which is made if absent, until :func:`release` or the end of the
    program; a process that holds it already goes on holding it.

    Args:
        folder: of the results of a run.
        what: where users name it, to begin messages with.
        wait: wait for another run that is about to end, at most :data:`PATIENCE` seconds.
        now: the time, in seconds, by the clock that the folder's times of change are made with.
        pause: waits some seconds.

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
                end = now(folder) + PATIENCE
                logger.warning("%s %s: waiting for it to end", what, _in_use(folder))
            elif now(folder) >= end:
                raise UserError(
                    f"{what} {_in_use(folder)}, which has not ended: name another folder"
                )
            pause(PAUSE)
    except OSError as error:
        raise UserError(f"{what} cannot be written: {error.strerror}") from error
    _held[folder] = _Heart(folder / NAME)


def release() -> None:
    """Release the locks that this process holds."""
    while _held:
        _, heart = _held.popitem()
        heart.stop()


atexit.register(release)


def process_start(pid: int) -> str | None:
    """When a process of this machine was started; None where there is none or it has ended."""
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
    return ""  # this system does not tell when


@cache
def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115  no path
    except OSError:
        return f"{socket.gethostname()} {uuid.getnode()}"


def _take(folder: Path, now: Callable[[Path], float]) -> bool:
    """Whether the lock could be taken; one that is void is taken away before."""
    path = folder / NAME
    holder, beat = _read(path)
    if beat is not None:
        lives = None if holder is None else holder.lives()
        if lives or (lives is None and now(folder) - beat < SILENCE):
            return False
        logger.warning("Going over the lock of a run that was killed, %s", path)
        _take_away(path, holder)
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    except FileExistsError:  # another run was faster
        return False
    with os.fdopen(descriptor, "w") as file:
        json.dump(asdict(Holder.this_process()), file)
    return True


def _take_away(path: Path, holder: Holder | None) -> None:
    """Remove the lock of a holder, but none that another run has made in its place since."""
    aside = path.with_name(f"{UNFINISHED}{uuid.uuid4().hex}")
    with suppress(FileNotFoundError):
        path.rename(aside)
        if _read(aside)[0] != holder:
            aside.rename(path)
        aside.unlink(missing_ok=True)


def _read(path: Path) -> tuple[Holder | None, float | None]:
    """Who holds the lock, None where that is not told, and its last sign of life, None without a
    lock."""
    try:
        beat = path.lstat().st_mtime
    except FileNotFoundError:
        return None, None
    try:
        holder = Holder(**json.loads(path.read_text("utf-8")))
        return (holder if isinstance(holder.pid, int) else None), beat
    except (ValueError, TypeError, OSError):  # being written just now, or no lock of ours
        return None, beat


def _in_use(folder: Path) -> str:
    holder, _ = _read(folder / NAME)
    who = "another run"
    if holder is not None:
        who = f"the run of process {printable(holder.pid)} on {printable(holder.host)}"
    return f"is in use by {who}"


def _folder_time(folder: Path) -> float:
    """The time by the clock of the folder's file system, which may be another machine's."""
    with tempfile.TemporaryFile(dir=folder) as file:
        return os.fstat(file.fileno()).st_mtime


class _Heart:
    """Renews a lock's time of change until it is stopped."""

    def __init__(self, path: Path) -> None:
        self.path, self.holder = path, Holder.this_process()
        self._stopped = threading.Event()
        threading.Thread(target=self._beat, name="run.lock", daemon=True).start()

    def _beat(self) -> None:
        while not self._stopped.wait(BEAT):
            with suppress(OSError):  # a disk that is away for a while
                self.renew()

    def renew(self) -> None:
        """One sign of life. A run that lost its lock, as one that was stopped for minutes does,
        ends itself: two would write to one folder."""
        holder, _ = _read(self.path)
        if holder == self.holder:
            os.utime(self.path)
        elif holder is not None:
            folder = self.path.parent
            logger.error("%s %s while this one was silent: it ends", folder, _in_use(folder))
            os.kill(os.getpid(), signal.SIGTERM)

    def stop(self) -> None:
        """Give the lock back, unless this is but a copy of the process that holds it."""
        self._stopped.set()
        if self.holder.pid == os.getpid() and _read(self.path)[0] == self.holder:
            self.path.unlink(missing_ok=True)
