"""What a user's mistake looks like: one sentence, no traceback, exit code 2."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

MESSAGE_CHARACTERS = 2000  # of one line to a terminal


class UserError(ValueError):
    """A mistake that the user can mend.

    The message is one sentence that names the file or the key and says what to do.
    """


def printable(value: object, limit: int = 200) -> str:
    """Return text for an error message: one line of at most ``limit`` characters, none of control.

    File names, keys and messages of libraries may hold terminal commands and line breaks.
    """
    text = str(value)
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


@contextmanager
def exit_on_user_error() -> Iterator[None]:
    """For entry points: print a :class:`UserError` as one printable line and exit with code 2."""
    try:
        yield
    except UserError as error:
        # A worker process of a data loader hands its error on with the traceback in the message.
        message = str(error).strip().rpartition("UserError: ")[2]
        print(f"error: {printable(message, MESSAGE_CHARACTERS)}", file=sys.stderr)
        sys.exit(2)
