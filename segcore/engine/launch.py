"""Processes: one, several of a machine, several machines; on GPUs, or on CPUs over gloo."""

import argparse
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from detectron2.config import CfgNode
from detectron2.engine import default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from segcore.config import find_config, load_config
from segcore.datasets import register_own_datasets
from segcore.errors import UserError

from .together import MistakeElsewhere, create_patient_group, forget_patient_group


def setup(args: argparse.Namespace) -> CfgNode:
    """Read the config of a command line, and prepare data sets, logs, seeds and the output folder.

    Args:
        args: of ``detectron2.engine.default_argument_parser``.

    Returns:
        the config, frozen.
    """
    cfg = load_config(args.config_file, args.opts)
    register_own_datasets(cfg)
    cfg.freeze()
    args.config_file = str(find_config(args.config_file))
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
        UserError: a mistake of the user in any of the processes; the others are ended.
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
        return main(args)
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
    mistakes = mp.get_context("spawn").SimpleQueue()
    try:
        mp.spawn(_process, (main, args, world, mistakes), nprocs=world.processes_here)
    except (mp.ProcessExitedException, mp.ProcessRaisedException):
        # The process that is found first may be another, which lost its connection to this one.
        if mistakes.empty():
            raise
        raise UserError(mistakes.get()) from None


def _process(
    local_rank: int, main: Callable, args: argparse.Namespace, world: _World, mistakes: Any
) -> None:
    """What each started process runs. A user's mistake travels to the parent as its sentence."""
    if world.device == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // world.processes_here))
    try:
        _join(world, local_rank)
        main(args)
    except UserError as error:
        mistakes.put(str(error))
        sys.exit(2)
    _leave()


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
        result = main(args)
    except MistakeElsewhere:
        sys.exit(2)  # the process that met it prints the sentence
    _leave()
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
    create_patient_group(world.wait_minutes)
    comm.synchronize()


def _leave() -> None:
    """Leave the process group when all do. A group that a process still holds, or that others still
    speak in, has threads that abort the process when the interpreter ends."""
    comm.synchronize()
    forget_patient_group()
    dist.destroy_process_group()
