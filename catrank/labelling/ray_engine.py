"""Label with Ray Data, on one machine or on a cluster: each worker is an actor with the model.

The unit of work is a shard, which an actor labels and commits; Ray Data gives the actors as many
as they can take, restarts those that die and has their shards labelled again.
"""

import logging
import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from catrank.exports.files import make_folder, unwritable
from catrank.labelling.hashes import model_hash
from catrank.labelling.plan import Plan
from catrank.labelling.shards import LABELS, is_finished, label_shard
from segcore.errors import UserError, printable
from segcore.runtime.files import PARTIAL
from segcore.runtime.stopping import SIGNALS

ATTEMPTS = 10  # at a shard whose workers die, as they do where memory runs out
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

Loading = dict[str, Any]  # arguments of catrank.load


class ShardWorker:
    """An actor: loads the model once and labels the shards that it gets.

    Args:
        loading: arguments of ``catrank.load``.
        folder: the output folder, on a disk that all machines share.
    """

    def __init__(self, loading: Loading, folder: str) -> None:
        import torch

        from catrank.model import load

        self.failure, self.plan, self.model = "", Plan.load(Path(folder)), None
        torch.set_num_threads(self.plan.settings.threads)
        try:
            model = load(**loading)
            if model_hash(model) != self.plan.settings.model:
                raise UserError(
                    f"machine {os.uname().nodename} has another model of that name, or another "
                    "version of CatRank: install the same files on all machines"
                )
            self.model = model
        except UserError as error:  # an actor that fails to start would be started for ever
            self.failure = str(error)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """Label the shards with the numbers ``batch["shard"]``; "failure" is a user error."""
        failures = [self._label(number) for number in batch["shard"].tolist()]
        return {"shard": batch["shard"], "failure": failures}

    def _label(self, number: int) -> str:
        if self.model is None:
            return self.failure
        try:
            if not is_finished(self.plan, number):  # a killed actor may have finished it
                with _counted(self.plan, number):
                    label_shard(self.model, self.plan, number)
        except UserError as error:
            return str(error)
        return ""


@contextmanager
def _counted(plan: Plan, number: int) -> Iterator[None]:
    """Count the attempts at a shard in a file, since Ray Data repeats them without an end.

    Raises:
        UserError: there were too many, or the file cannot be written.
    """
    path = plan.folder / LABELS / f"{PARTIAL}attempts-{number:06d}"
    make_folder(path.parent)
    try:
        with path.open("ab") as file:
            if file.tell() >= ATTEMPTS:
                raise UserError(
                    f"shard {number} has ended {ATTEMPTS} workers, perhaps for lack of memory: run "
                    "the same command with fewer --workers, or with a smaller --batch-size into "
                    "another --output"
                )
            file.write(b".")
    except OSError as error:
        raise UserError(unwritable(path, error)) from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def start_ray(address: str | None, cpus: int) -> None:
    """Join a cluster, or start Ray on this machine alone, reachable from it alone.

    Args:
        address: of the cluster, "auto" for the one of this machine; None starts Ray.
        cpus: that a Ray started here assigns to workers.

    Raises:
        UserError: Ray is not installed, no cluster is there, or Ray does not start.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    if address is None:
        os.environ.setdefault(*LOOPBACK)
    try:
        import ray
    except ImportError as error:
        raise UserError(
            "catrank label runs on Ray, which is not installed: pip install 'catrank[scale]', or "
            "add --engine local"
        ) from error
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is not None:
        options["address"] = address
    else:
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


def label_on_ray(
    loading: Loading,
    plan: Plan,
    shards: Sequence[int],
    workers: int | None,
    advance: Callable[[int], object],
    *,
    address: str | None = None,
) -> None:
    """Label shards.

    Args:
        loading: arguments of ``catrank.load`` for the workers.
        plan: of the run, in a folder that all machines share.
        shards: numbers of those that are not finished.
        workers: actors; None: one for each GPU, without GPUs for each ``threads`` processors.
        advance: is called with the number of images of each finished shard.
        address: of a cluster; None starts Ray on this machine.

    Raises:
        UserError: Ray does not start or has ended, workers die again and again, the cluster is too
            small, or the output cannot be written.
    """
    threads = plan.settings.threads
    start_ray(address, max(os.cpu_count() or 1, (workers or 1) * threads))
    import ray

    try:
        gpus = _gpus(loading["device"])
        there = ray.cluster_resources()
        most = int(there.get("GPU", 0)) if gpus else int(there.get("CPU", 0)) // threads
        if most < 1 or (workers or 1) > most:
            raise UserError(
                f"Ray has {there.get('CPU', 0):g} CPUs and {there.get('GPU', 0):g} GPUs, too few "
                f"for {workers or 1} workers of {threads} threads: use fewer --workers"
            )
        count = min(workers or most, len(shards))
        _run(loading, plan, shards, count, gpus, advance)
    except (ray.exceptions.RayError, ConnectionError) as error:
        raise UserError(
            f"Ray has failed ({type(error).__name__}: {printable(_reason(error), 300)}); finished "
            "shards are kept: the same command resumes"
        ) from error
    finally:
        ray.shutdown()


def _run(
    loading: Loading,
    plan: Plan,
    shards: Sequence[int],
    workers: int,
    gpus: int,
    advance: Callable[[int], object],
) -> None:
    """Have actors label shards."""
    import ray
    from ray.data import ActorPoolStrategy, DataContext

    for name in ("ray.data", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    context = DataContext.get_current()
    context.enable_progress_bars = False
    # No task reads them: it would wait for a processor, and the actors hold all of them.
    numbers = ray.data.from_items(
        [{"shard": number} for number in shards], override_num_blocks=len(shards)
    )
    done = numbers.map_batches(
        ShardWorker,
        fn_constructor_args=(loading, str(plan.folder)),
        batch_size=1,
        compute=ActorPoolStrategy(min_size=1, max_size=workers, initial_size=workers),
        num_cpus=plan.settings.threads,
        num_gpus=gpus,
    )
    for row in _rows(done):
        if row["failure"]:
            raise UserError(row["failure"])
        advance(plan.size(row["shard"]))


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
