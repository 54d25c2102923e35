"""Map a function over many items in several processes that end with the program."""

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
    """Yield a ``map`` with ordered results; an exception inside the block cancels the rest.

    Args:
        workers: number of processes; up to 1 no process is started.
        items_at_once: items that a process takes at a time.

    Raises:
        UserError: a process was killed, as the system does when memory runs out.
    """
    if workers <= 1:
        yield map
        return
    stop_reader, stop_writer = multiprocessing.Pipe(duplex=False)
    with _signals_deferred() as check, stop_reader, stop_writer:
        pool = ProcessPoolExecutor(workers, initializer=_prepare, initargs=(stop_reader,))
        try:
            yield partial(_map, pool, check, items_at_once)
        except BrokenProcessPool as error:
            raise UserError(
                "a worker process was killed, perhaps for lack of memory: use fewer --workers"
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
    """Yield the results in order; a deferred signal raises between two of them."""
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
def _signals_deferred() -> Iterator[Callable[[], None]]:
    """Defer signals that raise until the yielded function is called, or until the end.

    An exception at any other moment could leave a lock of the pool held, for which the pool's
    thread would then wait for ever.
    """
    if threading.current_thread() is not threading.main_thread():  # it gets no signals
        yield lambda: None
        return
    received: list[int] = []
    before = {number: signal.getsignal(number) for number in SIGNALS}
    before = {number: handler for number, handler in before.items() if callable(handler)}

    def record(number: int, _: object) -> None:
        received.append(number)

    def check() -> None:
        if received:
            before[received[0]](received[0], None)

    for number in before:
        signal.signal(number, record)
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    check()  # a signal after the map's last check


def _prepare(stop: Connection) -> None:
    """Leave Ctrl-C to the parent; end when the parent asks for it or has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    end_with_parent(stop)


def end_with_parent(*others: Connection) -> None:
    """Start a thread that ends this process when its parent ends, even if killed.

    The process also ends when one of ``others`` has something to read.
    """
    ends = [multiprocessing.parent_process().sentinel, *others]

    def watch() -> None:
        multiprocessing.connection.wait(ends)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
