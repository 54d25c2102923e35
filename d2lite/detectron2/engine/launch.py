"""Starting the processes of a distributed run."""

import socket
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from detectron2.utils import comm

DEFAULT_TIMEOUT = timedelta(minutes=30)


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def launch(
    main_func: Callable,
    num_gpus_per_machine: int,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str | None = None,
    args: tuple = (),
    timeout: timedelta = DEFAULT_TIMEOUT,
) -> None:
    """Call ``main_func(*args)`` in every process of a run.

    A run of one process calls it directly. Others are started on this machine, one per GPU, with
    NCCL; without a GPU they use gloo.

    Args:
        main_func: the function, importable by its name.
        num_gpus_per_machine: processes on each machine.
        num_machines: machines.
        machine_rank: index of this one.
        dist_url: where the processes meet, as ``tcp://host:port``; "auto" finds a port, for one
            machine.
        args: arguments.
        timeout: of collective operations.
    """
    world_size = num_machines * num_gpus_per_machine
    if world_size <= 1:
        main_func(*args)
        return
    if dist_url == "auto":
        if num_machines != 1:
            raise AssertionError("--dist-url auto works on one machine only: give tcp://host:port")
        dist_url = f"tcp://127.0.0.1:{_free_port()}"
    mp.start_processes(
        _worker,
        nprocs=num_gpus_per_machine,
        args=(main_func, world_size, num_gpus_per_machine, machine_rank, dist_url, args, timeout),
        daemon=False,
        start_method="spawn",
    )


def _worker(
    local_rank: int,
    main_func: Callable,
    world_size: int,
    num_local: int,
    machine_rank: int,
    dist_url: str,
    args: tuple,
    timeout: timedelta,
) -> Any:
    has_gpu = torch.cuda.is_available()
    if has_gpu and num_local > torch.cuda.device_count():
        raise AssertionError(
            f"--num-gpus {num_local} asks for more GPUs than the {torch.cuda.device_count()} here"
        )
    dist.init_process_group(
        backend="nccl" if has_gpu else "gloo",
        init_method=dist_url,
        world_size=world_size,
        rank=machine_rank * num_local + local_rank,
        timeout=timeout,
    )
    comm.create_local_process_group(num_local)
    if has_gpu:
        torch.cuda.set_device(local_rank)
    comm.synchronize()  # a later time-out would be harder to understand
    main_func(*args)
