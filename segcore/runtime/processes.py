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
from multiprocessing.connection import Connection

from segcore.errors import UserError
from segcore.runtime.stopping import SIGNALS


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
    stop_reader, stop_writer = multiprocessing.Pipe(duplex=False)
    with _stops_noted() as check, stop_reader, stop_writer:
        pool = ProcessPoolExecutor(workers, initializer=_prepare, initargs=(stop_reader,))
        try:
            yield partial(_map, pool, check, items_at_once)
        except BrokenProcessPool as error:
            raise UserError(
                "a worker process was killed, perhaps for want of memory: use fewer --workers"
            ) from error
        except KeyboardInterrupt:
            stop_writer.send_bytes(b"stop")
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def _map(
    pool: ProcessPoolExecutor,
    check: Callable[[], None],
    items_at_once: int,
    function: Callable,
    items: Sequence,
) -> Iterator:
    """The results in order; what a signal raises comes between two of them."""
    chunks = [items[i : i + items_at_once] for i in range(0, len(items), items_at_once)]
    futures = [pool.submit(_apply, function, chunk) for chunk in chunks]
    for future in futures:
        while not wait([future], timeout=0.1).done:
            check()
        check()
        yield from future.result()


def _apply(function: Callable, items: Sequence) -> list:
    return [function(item) for item in items]


@contextmanager
def _stops_noted() -> Iterator[Callable[[], None]]:
    """Signals that raise something are noted until the yielded function is called, or the end.
    Raised at any moment they could leave a lock of the pool held, for which the pool's own thread
    would then wait for ever."""
    if threading.current_thread() is not threading.main_thread():  # it gets no signals
        yield lambda: None
        return
    noted: list[int] = []
    before = {number: signal.getsignal(number) for number in SIGNALS}
    before = {number: handler for number, handler in before.items() if callable(handler)}

    def note(number: int, _: object) -> None:
        noted.append(number)

    def check() -> None:
        if noted:
            before[noted[0]](noted[0], None)

    for number in before:
        signal.signal(number, note)
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    check()  # too late for the map to say so


def _prepare(stop: Connection) -> None:
    """Leave Ctrl-C to the parent, and end when it says so or is no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    end_with_parent(stop)


def end_with_parent(*others: Connection) -> None:
    """End this process, from a thread, where its parent ends, be it killed, or there is something
    to be read of ``others``."""
    ends = [multiprocessing.parent_process().sentinel, *others]

    def watch() -> None:
        multiprocessing.connection.wait(ends)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
