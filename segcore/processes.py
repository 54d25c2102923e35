"""The same function for many items, in several processes that end with the program."""

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial

from segcore.errors import UserError


@contextmanager
def process_map(
    workers: int, items_at_once: int = 8
) -> Iterator[Callable[[Callable, Sequence], Iterable]]:
    """A ``map`` whose results come in order; an exception inside the block stops the rest.

    Args:
        workers: processes; up to 1 nothing is started.
        items_at_once: what a process takes at a time.

    Raises:
        UserError: a process was killed, as the system does when the memory runs out.
    """
    if workers <= 1:
        yield map
        return
    with _interrupts_noted() as interrupted:
        pool = ProcessPoolExecutor(workers, initializer=_prepare)
        try:
            yield partial(_map, pool, interrupted, items_at_once)
        except BrokenProcessPool as error:
            raise UserError(
                "a worker process was killed, perhaps for want of memory: use fewer --workers"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _map(
    pool: ProcessPoolExecutor,
    interrupted: threading.Event,
    items_at_once: int,
    function: Callable,
    items: Sequence,
) -> Iterator:
    """The results in order; KeyboardInterrupt between two of them."""
    chunks = [items[i : i + items_at_once] for i in range(0, len(items), items_at_once)]
    futures = [pool.submit(_apply, function, chunk) for chunk in chunks]
    for future in futures:
        while not wait([future], timeout=0.1).done or interrupted.is_set():
            if interrupted.is_set():
                raise KeyboardInterrupt
        yield from future.result()


def _apply(function: Callable, items: Sequence) -> list:
    return [function(item) for item in items]


@contextmanager
def _interrupts_noted() -> Iterator[threading.Event]:
    """Ctrl-C sets an event. Raised at any moment it could leave a lock of the pool held, for which
    the pool's own thread would then wait for ever."""
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # it gets no signals
        yield interrupted
        return
    before = signal.signal(signal.SIGINT, lambda *_: interrupted.set())
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)
    if interrupted.is_set():  # too late for the map to say so
        raise KeyboardInterrupt


def _prepare() -> None:
    """Leave Ctrl-C to the parent, and do not outlive it where it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process().sentinel

    def watch() -> None:
        multiprocessing.connection.wait([parent])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
