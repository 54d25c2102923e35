"""Label with Ray Data, on one machine or on a cluster; a process of its own drives Ray."""

import json
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import catrank
from catrank.labelling.plan import Plan
from catrank.labelling.ray_worker import Loading
from segcore.errors import UserError, printable

DRIVER = "catrank.labelling.ray_driver"
ENDING = 60  # seconds that Ray gets to end its processes


@dataclass(frozen=True)
class Task:
    """What to label.

    Attributes:
        loading: arguments of ``catrank.load`` for the workers.
        plan: of the run, in a folder that all machines share.
        shards: numbers of those that are not finished.
        workers: actors; None: one for each GPU, without GPUs for each ``threads`` processors.
        address: of a cluster; None starts Ray on this machine.
    """

    loading: Loading
    plan: Plan
    shards: Sequence[int]
    workers: int | None
    address: str | None


def check_installed() -> None:
    """Check that Ray is there.

    Raises:
        UserError: it is not installed.
    """
    if find_spec("ray") is None:
        raise UserError(
            "catrank label runs on Ray, which is not installed: pip install 'catrank[scale]', or "
            "add --engine local"
        )


def label_on_ray(task: Task, advance: Callable[[int], object]) -> None:
    """Label shards.

    Args:
        task: what to label.
        advance: is called with the number of images of each finished shard.

    Raises:
        UserError: Ray does not start or has ended, workers die again and again, the cluster is too
            small, or the output cannot be written.
    """
    with tempfile.TemporaryFile() as log, _driver(log) as driver:
        with suppress(BrokenPipeError):  # it has ended; the log says why
            driver.stdin.write(pickle.dumps(task))
            driver.stdin.flush()
        for line in driver.stdout:
            match json.loads(line):
                case int(images):
                    advance(images)
                case str(failure):
                    raise UserError(failure)
                case None:
                    return
        raise UserError(
            f"Ray has ended ({_last_line(log)}); finished shards are kept: the same command resumes"
        )


@contextmanager
def _driver(log: IO[bytes]) -> Iterator[Any]:
    """Start the process that drives Ray, and end it with the block."""
    # As this process finds the package, its own processes do.
    package = str(Path(catrank.__file__).parents[1])
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    driver = subprocess.Popen(
        [sys.executable, "-m", DRIVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        env=os.environ | {"PYTHONPATH": path},
        start_new_session=True,  # Ctrl-C is for this process, which ends the other one
    )
    try:
        yield driver
    finally:
        driver.terminate()
        try:
            driver.communicate(timeout=ENDING)
        except subprocess.TimeoutExpired:
            driver.kill()
            driver.communicate()


def _last_line(log: IO[bytes]) -> str:
    """What the driver printed last, or how it ended."""
    log.seek(max(0, log.seek(0, os.SEEK_END) - 4096))
    lines = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    return printable(lines[-1].strip(), 200) if lines else "it printed nothing"
