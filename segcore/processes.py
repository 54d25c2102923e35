"""The same function for many items, in several processes that end with the program."""

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

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
    pool = ProcessPoolExecutor(workers, initializer=_prepare)
    try:
        yield lambda function, items: pool.map(function, items, chunksize=items_at_once)
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process was killed, perhaps for want of memory: use fewer --workers"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _prepare() -> None:
    """Leave Ctrl-C to the parent, and do not outlive it where it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process().sentinel

    def watch() -> None:
        multiprocessing.connection.wait([parent])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
