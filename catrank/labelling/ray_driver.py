"""The program that drives Ray Data: each worker is an actor with the model.

    python -m catrank.labelling.ray_driver

It is a process of its own because Ray ends its driver, without an exception, where Ray itself has
been killed. It reads a pickled ``Task`` of :mod:`catrank.labelling.ray_engine` from its standard
input and writes a JSON value a line: the number of images of each finished shard; at the end null,
or the message of a user error. It ends when its input does, which is when the process that started
it has ended.

The unit of work is a shard, which an actor labels and commits; Ray Data gives the actors as many
as they can take, restarts those that die and has their shards labelled again.
"""

import json
import logging
import os
import pickle
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from catrank.labelling.ray_engine import Task
from catrank.labelling.ray_worker import ShardWorker
from segcore.errors import UserError, printable
from segcore.runtime.stopping import SIGNALS, signals_as_exceptions

STARTS = 3  # attempts to start Ray, which gives itself half a minute: little on a busy machine
HEARTBEAT = 5  # seconds without a row after which this machine's Ray is looked for
OBJECT_STORE = 200 << 20  # bytes; only numbers of shards pass through it

# Read when Ray is imported or started.
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is reported to anybody
    # Its core would print on this terminal what it logs, and that actors may be restarted.
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    # On a busy machine processes need more than the seconds that they are given to start.
    "RAY_agent_register_timeout_ms": "300000",
    "RAY_worker_register_timeout_seconds": "300",
}
LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0"  # on Linux, too: bind to 127.0.0.1


def main() -> None:
    """Run the task on the standard input."""
    reports = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # Ray prints

    def report(value: int | str | None) -> None:
        print(json.dumps(value), file=reports, flush=True)

    task: Task = pickle.load(sys.stdin.buffer)  # of the process that started this one
    threading.Thread(target=_end_with_input, name="input", daemon=True).start()
    with suppress(KeyboardInterrupt), signals_as_exceptions():
        try:
            label_shards(task, report)
        except UserError as error:
            report(str(error))
        else:
            report(None)


def _end_with_input() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


def start_ray(address: str | None, cpus: int) -> None:
    """Join a cluster, or start Ray on this machine alone, reachable from it alone.

    Args:
        address: of the cluster, "auto" for the one of this machine; None starts Ray.
        cpus: that a Ray started here assigns to workers.

    Raises:
        UserError: no cluster is there, or Ray does not start.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    if address is None:
        os.environ.setdefault(*LOOPBACK)
    import ray

    # Without an address Ray would join whatever runs on this machine; "local" starts one.
    options: dict[str, Any] = {"address": address or "local"}
    options |= {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        options |= {"num_cpus": cpus, "include_dashboard": False}
        options["object_store_memory"] = OBJECT_STORE
    what = "Ray does not start here" if address is None else f"no Ray at {printable(address)}"
    for attempt in range(1, STARTS + 1):
        try:
            with _signals_kept():
                ray.init(**options)
            return
        except Exception as error:  # ConnectionError, ValueError, RuntimeError, Ray's own
            if attempt == STARTS or address is not None:
                raise UserError(f"{what}: {printable(error, 400)}") from error


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Keep the handlers of Ctrl-C and SIGTERM, which Ray replaces by some that print a trace."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def label_shards(task: Task, advance: Callable[[int], object]) -> None:
    """Label the shards of a task.

    Args:
        task: what to label.
        advance: is called with the number of images of each finished shard.

    Raises:
        UserError: Ray does not start or has ended, workers die again and again, the cluster is too
            small, or the output cannot be written.
    """
    threads, wanted = task.plan.settings.threads, task.workers or 1
    start_ray(task.address, max(os.cpu_count() or 1, wanted * threads))
    import ray

    try:
        gpus = _gpus(task.loading["device"])
        there = ray.cluster_resources()
        most = int(there.get("GPU", 0)) if gpus else int(there.get("CPU", 0)) // threads
        if most < 1 or wanted > most:
            raise UserError(
                f"Ray has {there.get('CPU', 0):g} CPUs and {there.get('GPU', 0):g} GPUs, too few "
                f"for {wanted} workers of {threads} threads: use fewer --workers"
            )
        _run(task, min(task.workers or most, len(task.shards)), gpus, advance)
    except (ray.exceptions.RayError, ConnectionError) as error:
        raise UserError(
            f"Ray has failed ({type(error).__name__}: {printable(_reason(error), 300)}); finished "
            "shards are kept: the same command resumes"
        ) from error
    finally:
        ray.shutdown()


def _run(task: Task, workers: int, gpus: int, advance: Callable[[int], object]) -> None:
    """Have actors label shards."""
    import ray
    from ray.data import ActorPoolStrategy, DataContext

    for name in ("ray.data", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    context = DataContext.get_current()
    context.enable_progress_bars = False
    # No task reads them: it would wait for a processor, and the actors hold all of them.
    numbers = ray.data.from_items(
        [{"shard": number} for number in task.shards], override_num_blocks=len(task.shards)
    )
    done = numbers.map_batches(
        ShardWorker,
        fn_constructor_args=(task.loading, str(task.plan.folder)),
        batch_size=1,
        compute=ActorPoolStrategy(min_size=1, max_size=workers, initial_size=workers),
        num_cpus=task.plan.settings.threads,
        num_gpus=gpus,
    )
    for row in _rows(done):
        if row["failure"]:
            raise UserError(row["failure"])
        advance(task.plan.size(row["shard"]))


def _rows(dataset: Any) -> Iterator[dict[str, Any]]:
    """Yield the rows of a data set.

    Raises:
        UserError: the machine of this process has left the cluster, or its Ray has been killed;
            Ray Data would wait for it for ever.
    """
    import ray

    here, found = ray.get_runtime_context().get_node_id(), queue.SimpleQueue[Any]()

    def feed() -> None:
        try:
            for row in dataset.iter_rows():
                found.put(row)
            found.put(None)
        except BaseException as error:
            found.put(error)

    threading.Thread(target=feed, name="rows", daemon=True).start()
    while True:
        try:
            row = found.get(timeout=HEARTBEAT)
        except queue.Empty:
            if not any(node["Alive"] and node["NodeID"] == here for node in ray.nodes()):
                raise UserError(
                    "Ray has ended on this machine; finished shards are kept: the same command "
                    "resumes"
                ) from None
            continue
        if row is None:
            return
        if isinstance(row, BaseException):
            raise row
        yield row


def _gpus(device: str) -> int:
    """GPUs of a worker.

    Raises:
        UserError: a GPU is named by its number, which Ray assigns.
    """
    import ray

    if device.startswith("cuda:"):
        raise UserError(f"--device {device}: Ray assigns GPUs: write cuda, or --engine local")
    if device == "auto":
        return int(ray.cluster_resources().get("GPU", 0) >= 1)
    return int(device == "cuda")


def _reason(error: BaseException) -> str:
    """The last line of the innermost error."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__


if __name__ == "__main__":
    main()
