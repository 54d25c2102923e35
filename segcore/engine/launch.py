"""Processes: one, several of a machine, several machines; on GPUs, or on CPUs over gloo."""

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
from segcore.runtime.lock import hold, release
from segcore.runtime.processes import end_with_parent
from segcore.runtime.stopping import interrupts_ignored

from .collective import (
    ErrorElsewhere,
    ProcessLost,
    collective,
    create_long_timeout_group,
    forget_long_timeout_group,
    losses_as_user_errors,
)

GRACE = 5.0  # seconds that a process has to end when it is asked to


def setup(args: argparse.Namespace) -> CfgNode:
    """Read the config of a command line, and prepare data sets, logs, seeds and the output folder,
    which is held until the end of :func:`launch` (:mod:`segcore.runtime.lock`).

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
    try:
        default_setup(cfg, args)
        # Without this, lines of the logger of this package are nowhere to be read.
        setup_logger(cfg.OUTPUT_DIR, comm.get_rank(), name="segcore", enable_propagation=True)
    except OSError as error:
        raise UserError(f"OUTPUT_DIR {cfg.OUTPUT_DIR} cannot be written: {error}") from error
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
        what ``main`` returns, where it ran in this process; else None.

    Raises:
        UserError: an error of the user in any of the processes; the others are ended.
    """
    # Before any process starts, so that a wrong key is one sentence and not one a process.
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
        # looks once, when it is loaded, so this must be set before they start.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    errors = mp.get_context("spawn").SimpleQueue()
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)  # whom it ends
    with interrupts_ignored():  # by them; this process ends them
        run = mp.start_processes(
            _process, (main, args, world, errors), nprocs=world.processes_here, join=False
        )
    try:
        while not run.join():
            pass
    except (mp.ProcessExitedException, mp.ProcessRaisedException) as error:
        # The process that is found first may be another, which lost its connection to this one.
        sentences = []
        while not errors.empty():
            sentences.append(errors.get())
        sentence = _reason(error, sentences, [process.exitcode for process in run.processes])
        if sentence is None:
            raise
        raise UserError(sentence) from None
    finally:
        _end(run.processes)


def _reason(
    error: Exception, sentences: list[tuple[bool, str]], exit_codes: list[int | None]
) -> str | None:
    """Why a run of several processes ended; None of an error of the program.

    Args:
        error: how the first process that was found to have ended did.
        sentences: errors that processes met; True where that is the loss of another process.
        exit_codes: of all processes; those that went on have been ended by SIGTERM.
    """
    met = [sentence for lost, sentence in sentences if not lost]
    if met:
        return met[0]
    for rank, code in enumerate(exit_codes):
        if code is not None and code < 0 and code != -signal.SIGTERM:
            why = ", perhaps for want of memory" if code == -signal.SIGKILL else ""
            return f"process {rank} was killed by {signal.Signals(-code).name}{why}"
    if sentences:
        return sentences[0][1]
    if getattr(error, "signal_name", None):
        return f"process {error.error_index} was ended by {error.signal_name}"
    return None


def _end(processes: Sequence[mp.Process]) -> None:
    """See that they have ended; at the end of a run that was not interrupted they have."""
    for end in (mp.Process.terminate, mp.Process.kill):
        for process in processes:
            if process.is_alive():
                end(process)
        for process in processes:
            process.join(GRACE)


def _process(
    local_rank: int, main: Callable, args: argparse.Namespace, world: _World, errors: Any
) -> None:
    """What each started process runs. A user's error travels to the parent as its sentence."""
    end_with_parent()
    # The workers of its loaders start as they do in a run of one process, or under torchrun.
    mp.set_start_method(world.start_method, force=True)
    if world.device == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // world.processes_here))
    try:
        _join(world, local_rank)
        _run(main, args)
        with losses_as_user_errors():
            _leave()
    except UserError as error:
        errors.put((isinstance(error, ProcessLost), str(error)))
        # At once, since the parent and the other processes wait for it: Python's own end waits for
        # the workers of loaders, which notice by themselves.
        logging.shutdown()
        sys.stdout.flush()
        os._exit(2)


def _run(main: Callable, args: argparse.Namespace) -> Any:
    """What ``main`` returns; locks are released, and the loss of a process is a user's error."""
    try:
        with losses_as_user_errors():
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
        with losses_as_user_errors():
            _leave()
    except ErrorElsewhere:
        sys.exit(2)  # the process that met it prints the sentence
    return result


def _join(world: _World, local_rank: int) -> None:
    """Enter the process group, with Detectron2's group of the processes of a machine."""
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
    """Leave the process group when all do. A group that a process still holds, or that others still
    speak in, has threads that abort the process when the interpreter ends."""
    comm.synchronize()
    forget_long_timeout_group()
    dist.destroy_process_group()
