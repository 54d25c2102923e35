"""Ctrl-C ends a command in one line also while its imports are loading, which takes seconds.

Entry points import this module first; it imports the standard library alone. Once a command runs,
:func:`segcore.errors.exit_on_user_error` catches the interrupt.
"""

import os
import sys
from types import TracebackType

EXIT_CODE = 130  # of shells for SIGINT

_show = sys.excepthook


def end_in_one_line(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    """Print "interrupted" for a KeyboardInterrupt that was not caught and exit with code 130; show
    all other exceptions as before."""
    if not issubclass(kind, KeyboardInterrupt):
        _show(kind, error, traceback)
        return
    print("interrupted", file=sys.stderr, flush=True)
    # Python would end itself by the signal now: as code -2 for programs that started it.
    os._exit(EXIT_CODE)


sys.excepthook = end_in_one_line
