"""Launch a run: in one process, in several on one machine or on several machines.

Processes use NCCL on GPUs and gloo on CPUs.
"""

import argparse
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from detectron2.config import CfgNode
from detectron2.engine import default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from segcore.config import find_config, load_config
from segcore.datasets import register_custom_datasets
from segcore.errors import UserError
from segcore.runtime.console import open_terminal
from segcore.runtime.lock import hold, release
from segcore.runtime.logs import set_up_quietly
from segcore.runtime.processes import end_with_parent
from segcore.runtime.stopping import interrupts_ignored

from .collective import (
    ErrorInOtherProcess,
    ProcessLost,
    collective,
    create_long_timeout_group,
    forget_long_timeout_group,
    lost_processes_as_user_errors,
)
from .progress import print_run

GRACE = 5.0  # seconds that a process has to end when it is asked to


def setup(args: argparse.Namespace) -> CfgNode:
    """Read the config of a command line and prepare data sets, logs, seeds and the output folder.

    The folder stays locked until the end of :func:`launch` (:mod:`segcore.runtime.lock`).

    Args:
        args: of ``detectron2.engine.default_argument_parser``.

    Returns:
        the config, frozen.

    Raises:
        UserError: the config is wrong, or another run holds the output folder.
    """
    cfg = load_config(args.config_file, args.opts)
    register_custom_datasets(cfg)
    cfg.freeze()
    args.config_file = str(find_config(args.config_file))
    if cfg.OUTPUT_DIR:
        with collective():
            if comm.is_main_process():
                hold(cfg.OUTPUT_DIR, "OUTPUT_DIR", wait=args.resume)

    def set_up() -> None:
        default_setup(cfg, args)
        for name in ("segcore", "py.warnings"):  # of which Detectron2 does not know
            setup_logger(cfg.OUTPUT_DIR, comm.get_rank(), name=name, enable_propagation=True)

    try:
        set_up_quietly(set_up, open_terminal() if comm.is_main_process() else None)
    except OSError as error:
        raise UserError(f"OUTPUT_DIR {cfg.OUTPUT_DIR} cannot be written: {error}") from error
    print_run(cfg, args)
    return cfg


@dataclass(frozen=True)
class _World:
    """The processes of a run, as one of its machines sees them."""

    url: str
    size: int
    first_rank: int  # of those on this machine
    processes_here: int
    device: str
    wait_minutes: float
    start_method: str = field(default_factory=mp.get_start_method)


def launch(main: Callable[[argparse.Namespace], Any], args: argparse.Namespace) -> Any:
    """Run ``main(args)`` in as many processes as the command line, or torchrun, asks for.

    ``--num-gpus N`` starts N processes on this machine: one a GPU, or N on the CPU where that is
    the device of the config. Under torchrun the processes are there already, and join.

    Args:
        main: importable by name, since new processes import it.
        args: of ``detectron2.engine.default_argument_parser``.

    Returns:
        the return value of ``main`` if it ran in this process; else None.

    Raises:
        UserError: a user error in any of the processes; the others are terminated.
    """
    # Before any process starts, so that a wrong key prints one message and not one per process.
    cfg = load_config(args.config_file, args.opts)
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        return _run_under_torchrun(main, args, cfg)
    _require_devices(args.num_gpus, cfg.MODEL.DEVICE)
    world = _World(
        url=f"tcp://127.0.0.1:{_free_port()}" if args.num_machines == 1 else args.dist_url,
        size=args.num_machines * args.num_gpus,
        first_rank=args.machine_rank * args.num_gpus,
        processes_here=args.num_gpus,
        device=cfg.MODEL.DEVICE,
        wait_minutes=cfg.TEST.TIMEOUT_MINUTES,
    )
    if world.size == 1:
        return _run(main, args)
    return _run_in_processes(main, args, world)


def _require_devices(wanted: int, device: str) -> None:
    if wanted < 1:
        raise UserError(f"--num-gpus is {wanted}: at least one process is needed")
    there = torch.cuda.device_count()
    if device != "cpu" and wanted > there:
        raise UserError(
            f"--num-gpus is {wanted}, but this machine has {there}; ask for fewer, or set "
            "MODEL.DEVICE cpu to run the processes on the CPU"
        )


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def _run_in_processes(main: Callable, args: argparse.Namespace, world: _World) -> None:
    if world.device == "cpu":
        # Threads that spin while they wait would hold the cores of the other processes. OpenMP
        # reads this once, when it is loaded, so it must be set before the processes start.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    errors = mp.get_context("spawn").SimpleQueue()
    # At lower levels it logs each process that it terminates.
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)
    with interrupts_ignored():  # by the new processes: this process terminates them
        run = mp.start_processes(
            _process, (main, args, world, errors), nprocs=world.processes_here, join=False
        )
    try:
        while not run.join():
            pass
    except (mp.ProcessExitedException, mp.ProcessRaisedException) as error:
        # The process that is found first may only have lost its connection to the failed one.
        messages = []
        while not errors.empty():
            messages.append(errors.get())
        message = _reason(error, messages, [process.exitcode for process in run.processes])
        if message is None:
            raise
        raise UserError(message) from None
    finally:
        _end(run.processes)


def _reason(
    error: Exception, messages: list[tuple[bool, str]], exit_codes: list[int | None]
) -> str | None:
    """Return why a run of several processes ended; None for an error of the program.

    Args:
        error: of the first process that was found to have ended.
        messages: user errors of the processes; True marks the loss of another process.
        exit_codes: of all processes; the running ones have been terminated by SIGTERM.
    """
    causes = [message for lost, message in messages if not lost]
    if causes:
        return causes[0]
    for rank, code in enumerate(exit_codes):
        if code is not None and code < 0 and code != -signal.SIGTERM:
            why = ", perhaps for lack of memory" if code == -signal.SIGKILL else ""
            return f"process {rank} was killed by {signal.Signals(-code).name}{why}"
    if messages:
        return messages[0][1]
    if getattr(error, "signal_name", None):
        return f"process {error.error_index} was ended by {error.signal_name}"
    return None


def _end(processes: Sequence[mp.Process]) -> None:
    """Terminate the processes that are still alive: there are some where a run was interrupted."""
    for end in (mp.Process.terminate, mp.Process.kill):
        for process in processes:
            if process.is_alive():
                end(process)
        for process in processes:
            process.join(GRACE)


def _process(
    local_rank: int, main: Callable, args: argparse.Namespace, world: _World, errors: Any
) -> None:
    """Run ``main`` in a started process; a user error goes to the parent as its message."""
    end_with_parent()
    # The workers of its loaders start as they do in a run of one process, or under torchrun.
    mp.set_start_method(world.start_method, force=True)
    if world.device == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // world.processes_here))
    try:
        _join(world, local_rank)
        _run(main, args)
        with lost_processes_as_user_errors():
            _leave()
    except UserError as error:
        errors.put((isinstance(error, ProcessLost), str(error)))
        # Exit at once, since the parent and the other processes wait for it: a normal exit waits
        # for the workers of loaders, which end by themselves.
        logging.shutdown()
        sys.stdout.flush()
        os._exit(2)


def _run(main: Callable, args: argparse.Namespace) -> Any:
    """Return what ``main`` returns; release locks, and raise a lost process as a user error."""
    try:
        with lost_processes_as_user_errors():
            return main(args)
    finally:
        release()


def _run_under_torchrun(main: Callable, args: argparse.Namespace, cfg: CfgNode) -> Any:
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    local_rank = int(os.environ.get("LOCAL_RANK", rank))
    local_size = int(os.environ.get("LOCAL_WORLD_SIZE", size))
    if args.num_gpus not in (1, local_size) or args.num_machines != 1:
        raise UserError("torchrun starts the processes: leave out --num-gpus and --num-machines")
    _require_devices(local_size, cfg.MODEL.DEVICE)
    world = _World(
        url="env://",
        size=size,
        first_rank=rank - local_rank,
        processes_here=local_size,
        device=cfg.MODEL.DEVICE,
        wait_minutes=cfg.TEST.TIMEOUT_MINUTES,
    )
    try:
        _join(world, local_rank)
        result = _run(main, args)
        with lost_processes_as_user_errors():
            _leave()
    except ErrorInOtherProcess:
        sys.exit(2)  # the other process prints the message
    return result


def _join(world: _World, local_rank: int) -> None:
    """Join the process group, and Detectron2's local group of the processes of a machine."""
    rank = world.first_rank + local_rank
    backend = "gloo"
    if world.device != "cpu":
        torch.cuda.set_device(local_rank)
        backend = "nccl"
    try:
        dist.init_process_group(backend, init_method=world.url, rank=rank, world_size=world.size)
    except (dist.DistNetworkError, dist.DistStoreError, ValueError) as error:
        raise UserError(
            f"process {rank} of {world.size} cannot join the others at {world.url}: see that "
            "--dist-url is the address of machine 0 and that all machines were started "
            f"({error})"
        ) from error
    comm.create_local_process_group(world.processes_here)
    create_long_timeout_group(world.wait_minutes)
    comm.synchronize()


def _leave() -> None:
    """Leave the process group when all processes do.

    A group that is still held, or that others still use, has threads that abort the process when
    the interpreter ends.
    """
    comm.synchronize()
    forget_long_timeout_group()
    dist.destroy_process_group()
