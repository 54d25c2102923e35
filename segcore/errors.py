"""What a user's error looks like: one sentence, no traceback, exit code 2."""

import os
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager

from segcore.runtime.stopping import farewell, stops_raised

MESSAGE_CHARACTERS = 2000  # of one line to a terminal
BIDI_CONTROLS = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class UserError(ValueError):
    """An error that the user can mend.

    The message is one sentence that names the file or the key and says what to do.
    """


def printable(value: object, limit: int = 200) -> str:
    """Return text for an error message: one line of at most ``limit`` characters, none of control.

    File names, keys and messages of libraries may hold terminal commands and line breaks.
    """
    text = str(value)
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def holds_control(text: str) -> bool:
    """Return whether there is a character that is obeyed instead of shown, or half of one.

    These are control characters, breaks of lines, changes of the direction of writing and lone
    surrogates. Spaces of other widths and joiners, as in names of screenshots and of languages of
    India, are none.
    """
    return not text.isprintable() and any(
        c in BIDI_CONTROLS or unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in text
    )


@contextmanager
def exit_on_user_error(after: str = "") -> Iterator[None]:
    """For entry points: print a :class:`UserError` as one line and exit with code 2; Ctrl-C and
    SIGTERM are one line too, with the codes 130 and 143.

    Args:
        after: what follows "interrupted", such as ": the same command goes on".
    """
    with stops_raised():
        try:
            yield
        except UserError as error:
            # A worker process of a data loader hands its error on with the traceback in the
            # message.
            sentence = str(error).strip().rpartition("UserError: ")[2]
            print(f"error: {printable(sentence, MESSAGE_CHARACTERS)}", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt as stop:
            word, code = farewell(stop)
            if os.environ.get("LOCAL_RANK", "0") == "0":  # torchrun ends all of its processes
                print(f"{word}{after}", file=sys.stderr)
            sys.exit(code)
