"""Log files hold everything; the terminal receives warnings, each once."""

import io
import logging
import re
import sys
from collections.abc import Callable
from contextlib import redirect_stdout

from segcore.runtime.console import Console

# Of warnings.formatwarning: file, line, category, message; then the line of the source.
PYTHON_WARNING = re.compile(r"^.*?:\d+: (?:\w+): (.*?)\n.*$", re.DOTALL)


class WarningHandler(logging.Handler):
    """Prints warnings and errors of loggers on a console.

    Args:
        console: prints each once.
    """

    def __init__(self, console: Console) -> None:
        super().__init__(logging.WARNING)
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record: its message, of a Python warning that without the source line."""
        message = record.getMessage()
        if record.name == "py.warnings":
            message = PYTHON_WARNING.sub(r"\1", message)
        self.console.warn(message.strip())


def set_up_quietly(set_up: Callable[[], None], console: Console | None) -> None:
    """Call Detectron2's set-up of loggers so that they print nothing but warnings.

    Log files, which the same set-up opens, are as ever. Python's warnings become records of the
    logger ``py.warnings``, so that they are in the log file too.

    Args:
        set_up: calls ``detectron2.utils.logger.setup_logger`` or ``default_setup``, which print
            the config, and add handlers that print to the ``sys.stdout`` that they find.
        console: for warnings; None in all but the main process.
    """
    logging.captureWarnings(True)
    _mute_printing(sys.stdout)
    with redirect_stdout(io.StringIO()) as unread:
        set_up()
    _mute_printing(unread)
    if console is not None:
        for name in (None, "detectron2", "fvcore"):  # of which the latter do not propagate
            logger = logging.getLogger(name)
            if not any(isinstance(each, WarningHandler) for each in logger.handlers):
                logger.addHandler(WarningHandler(console))


def _mute_printing(stream: object) -> None:
    """Switch off the handlers of all loggers that write to a stream."""
    for logger in list(logging.root.manager.loggerDict.values()):
        for handler in getattr(logger, "handlers", ()):
            if getattr(handler, "stream", None) is stream:
                handler.setLevel(logging.CRITICAL + 1)
