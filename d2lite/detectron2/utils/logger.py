"""Logging to the terminal and to a file per process."""

import atexit
import functools
import logging
import sys
from pathlib import Path
from typing import TextIO

from termcolor import colored

from detectron2.utils.file_io import PathManager

_DATE = "%m/%d %H:%M:%S"


class _ShortNames(logging.Formatter):
    """Abbreviates the package in logger names; on a terminal highlights warnings and errors."""

    def __init__(self, form: str, name: str, short: str, mark: bool = False) -> None:
        super().__init__(form, datefmt=_DATE)
        self._name, self._short, self._mark = name, short, mark

    def formatMessage(self, record: logging.LogRecord) -> str:
        name = record.name
        if name == self._name or name.startswith(f"{self._name}."):
            record.name = self._short + name[len(self._name) :]
        line = super().formatMessage(record)
        record.name = name
        if not self._mark or record.levelno < logging.WARNING:
            return line
        style = ["underline"] if record.levelno >= logging.ERROR else ["blink"]
        return f"{colored(record.levelname, 'red', attrs=style)} {line}"


@functools.cache  # asking twice must not double the handlers
def setup_logger(
    output: str | None = None,
    distributed_rank: int = 0,
    *,
    color: bool = True,
    name: str = "detectron2",
    abbrev_name: str | None = None,
    enable_propagation: bool = False,
    configure_stdout: bool = True,
) -> logging.Logger:
    """Set up a logger that prints on the first process and writes a file on each.

    Args:
        output: a file ending in .txt or .log, or a folder that then holds ``log.txt``. Processes
            after the first append ``.rank<n>`` to the name.
        distributed_rank: index of this process.
        color: whether the terminal gets colours.
        name: root of the logger.
        abbrev_name: what the root is called in the lines; "d2" for "detectron2".
        enable_propagation: whether parent loggers see the messages too.
        configure_stdout: whether to print at all.
    """
    logger = logging.getLogger(name)
    logger.setLevel(logging.DEBUG)
    logger.propagate = enable_propagation
    short = ("d2" if name == "detectron2" else name) if abbrev_name is None else abbrev_name
    plain = "[%(asctime)s] %(name)s %(levelname)s: %(message)s"

    if configure_stdout and distributed_rank == 0:
        form = colored("[%(asctime)s %(name)s]: ", "green", force_color=True) + "%(message)s"
        terminal = logging.StreamHandler(stream=sys.stdout)
        terminal.setLevel(logging.DEBUG)
        terminal.setFormatter(_ShortNames(form if color else plain, name, short, mark=color))
        logger.addHandler(terminal)
    if output is not None:
        file = logging.StreamHandler(_open_log(_log_file(output, distributed_rank)))
        file.setLevel(logging.DEBUG)
        file.setFormatter(_ShortNames(plain, name, short))
        logger.addHandler(file)
    return logger


def _log_file(output: str, rank: int) -> str:
    output = str(output)
    path = output if output.endswith((".txt", ".log")) else str(Path(output) / "log.txt")
    return f"{path}.rank{rank}" if rank > 0 else path


@functools.cache  # several loggers share one file
def _open_log(path: str) -> TextIO:
    PathManager.mkdirs(str(Path(path).parent))
    stream = PathManager.open(path, "a", buffering=1)  # a line is on disk when it is logged
    atexit.register(stream.close)
    return stream
