"""Ctrl-C and SIGTERM end a program in one line, and its processes with it."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

BOUNCE = 1.0  # seconds in which a second signal is the same wish: a terminal and a parent both send
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM came, which is treated as Ctrl-C is."""


@contextmanager
def stops_raised() -> Iterator[None]:
    """Meanwhile SIGINT raises KeyboardInterrupt and SIGTERM :class:`Terminated` in this process; a
    later one ends it at once, wherever it is stuck.

    What is ignored stays ignored: ``nohup`` and shells that put a job into the background ask for
    that. A process that is forked meanwhile, such as a worker of a data loader, leaves Ctrl-C to
    its parent, which ends it.
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
        if time.monotonic() - first > BOUNCE:
            os.write(2, b"ended at once\n")
            os._exit(128 + number)

    return handle


def farewell(stop: KeyboardInterrupt) -> tuple[str, int]:
    """What a program says of the signal that ended it, and its exit code: that of shells."""
    if isinstance(stop, Terminated):
        return "terminated", 128 + signal.SIGTERM
    return "interrupted", 128 + signal.SIGINT


@contextmanager
def interrupts_ignored() -> Iterator[None]:
    """Processes that are started meanwhile ignore Ctrl-C, also while they are loading."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
