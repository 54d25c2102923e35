"""Let Ctrl-C and SIGTERM end a program, and its processes, with one line."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

# Seconds in which a second signal counts as the same one: a terminal and a parent may both send it.
DEBOUNCE = 1.0
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM was received; it is handled like Ctrl-C."""


@contextmanager
def signals_as_exceptions() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGINT and :class:`Terminated` on SIGTERM inside the block.

    A second signal ends the process at once, wherever it is stuck. Ignored signals stay ignored, as
    ``nohup`` and shells with background jobs want it. A process that is forked inside the block,
    such as a data loader's worker, leaves Ctrl-C to its parent, which terminates it.
    """
    if threading.current_thread() is not threading.main_thread():  # it gets no signals
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    usual = (signal.SIG_DFL, signal.default_int_handler)
    handler = _handler(os.getpid())
    changed = [number for number in SIGNALS if before[number] in usual]
    try:
        for number in changed:
            signal.signal(number, handler)
        yield
    finally:
        for number in changed:
            signal.signal(number, before[number])


def _handler(owner: int) -> signal.Handlers:
    first = None

    def handle(number: int, _: object) -> None:
        nonlocal first
        if os.getpid() != owner:
            if number == signal.SIGTERM:
                os._exit(128 + number)
            return
        if first is None:
            first = time.monotonic()
            raise Terminated if number == signal.SIGTERM else KeyboardInterrupt
        if time.monotonic() - first > DEBOUNCE:
            os.write(2, b"ended at once\n")
            os._exit(128 + number)

    return handle


def exit_status(stop: KeyboardInterrupt) -> tuple[str, int]:
    """Return the word to print for the signal that ended a program, and the shell's exit code."""
    if isinstance(stop, Terminated):
        return "terminated", 128 + signal.SIGTERM
    return "interrupted", 128 + signal.SIGINT


@contextmanager
def interrupts_ignored() -> Iterator[None]:
    """Let processes that are started inside the block ignore Ctrl-C from their start."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
