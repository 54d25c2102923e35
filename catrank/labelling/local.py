"""Label in one process: each worker is a thread with a shard of its own; all share the model."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

import torch

from catrank.labelling.plan import Plan
from catrank.labelling.shards import label_shard
from catrank.model import Model


def label_here(
    model: Model,
    plan: Plan,
    shards: Sequence[int],
    workers: int,
    advance: Callable[[int], object],
) -> None:
    """Label shards.

    Args:
        model: that of the plan.
        plan: of the run.
        shards: numbers of those that are not finished.
        workers: shards at a time.
        advance: is called with the number of images that have been labelled since.

    Raises:
        UserError: the output cannot be written.
    """
    threads, stop, lock = torch.get_num_threads(), threading.Event(), threading.Lock()

    def advance_locked(count: int) -> None:
        with lock:
            advance(count)

    torch.set_num_threads(plan.settings.threads)
    pool = ThreadPoolExecutor(workers)
    try:
        futures = [
            pool.submit(label_shard, model, plan, number, advance=advance_locked, stop=stop)
            for number in shards
        ]
        for future in as_completed(futures):
            future.result()
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)
