"""User errors: one line, no traceback, exit code 2."""

import os
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager

from segcore.runtime.stopping import exit_status, signals_as_exceptions

MESSAGE_CHARACTERS = 2000  # of one line to a terminal
BIDI_CONTROLS = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class UserError(ValueError):
    """An error that the user can fix.

    The message is one line that names the file or the key and says what to do.
    """


def printable(value: object, limit: int = 200) -> str:
    """Return text for an error message: one line of at most ``limit`` printable characters.

    File names, keys and messages of libraries may hold terminal commands and line breaks.
    """
    text = str(value)
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def holds_control(text: str) -> bool:
    """Return whether a text holds control characters.

    These are control characters (Cc), line and paragraph separators, changes of the writing
    direction and lone surrogates. Other spaces and joiners, which occur in names of screenshots and
    in Indic languages, do not count.
    """
    return not text.isprintable() and any(
        c in BIDI_CONTROLS or unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in text
    )


@contextmanager
def exit_on_user_error(after: str = "") -> Iterator[None]:
    """Print a :class:`UserError` as one line and exit with code 2; entry points run inside it.

    Ctrl-C and SIGTERM print one line too and exit with the codes 130 and 143.

    Args:
        after: text that follows "interrupted", such as ": the same command goes on".
    """
    with signals_as_exceptions():
        try:
            yield
        except UserError as error:
            # A worker process of a data loader passes its error on with the traceback in the
            # message.
            message = str(error).strip().rpartition("UserError: ")[2]
            print(f"error: {printable(message, MESSAGE_CHARACTERS)}", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt as stop:
            word, code = exit_status(stop)
            if os.environ.get("LOCAL_RANK", "0") == "0":  # torchrun ends all of its processes
                print(f"{word}{after}", file=sys.stderr)
            sys.exit(code)
