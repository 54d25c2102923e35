"""Collective operations of processes; every function also works with a single process.

The group of the processes on this machine is set once by :func:`create_local_process_group`
(``detectron2.engine.launch`` does it).
"""

import functools
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

_local_group: dist.ProcessGroup | None = None


def _initialized() -> bool:
    return dist.is_available() and dist.is_initialized()


def get_world_size() -> int:
    """Number of processes."""
    return dist.get_world_size() if _initialized() else 1


def get_rank() -> int:
    """Index of this process among all."""
    return dist.get_rank() if _initialized() else 0


def create_local_process_group(num_workers_per_machine: int) -> None:
    """Create the process groups of each machine; every process must call it once."""
    global _local_group
    if _local_group is not None:
        raise AssertionError("the local process group exists already")
    world_size = get_world_size()
    if world_size % num_workers_per_machine:
        raise AssertionError(
            f"{world_size} processes cannot be {num_workers_per_machine} on every machine"
        )
    for first in range(0, world_size, num_workers_per_machine):
        ranks = range(first, first + num_workers_per_machine)
        group = dist.new_group(list(ranks))  # collective: every process makes every group
        if get_rank() in ranks:
            _local_group = group


def get_local_process_group() -> dist.ProcessGroup:
    """Group of the processes on this machine."""
    if _local_group is None:
        raise AssertionError("no local process group: start the processes with engine.launch")
    return _local_group


def get_local_rank() -> int:
    """Index of this process on its machine."""
    return dist.get_rank(group=get_local_process_group()) if _initialized() else 0


def get_local_size() -> int:
    """Number of processes on this machine."""
    return dist.get_world_size(group=get_local_process_group()) if _initialized() else 1


def is_main_process() -> bool:
    """Whether this is the process that writes files and prints to the terminal."""
    return get_rank() == 0


def synchronize() -> None:
    """Wait until every process has reached this call."""
    if get_world_size() == 1:
        return
    if dist.get_backend() == dist.Backend.NCCL:
        dist.barrier(device_ids=[torch.cuda.current_device()])
    else:
        dist.barrier()


@functools.lru_cache
def _default_object_group() -> dist.ProcessGroup:
    """Return a group of all processes that can transfer objects on the CPU."""
    return dist.new_group(backend="gloo") if dist.get_backend() == "nccl" else dist.group.WORLD


def all_gather(data: Any, group: dist.ProcessGroup | None = None) -> list[Any]:
    """Collect any picklable object from every process, in order of rank."""
    if get_world_size() == 1:
        return [data]
    group = group or _default_object_group()
    collected = [None] * dist.get_world_size(group)
    dist.all_gather_object(collected, data, group=group)
    return collected


def gather(data: Any, dst: int = 0, group: dist.ProcessGroup | None = None) -> list[Any]:
    """Like :func:`all_gather`, but only process ``dst`` gets the list; the others get ``[]``."""
    if get_world_size() == 1:
        return [data]
    group = group or _default_object_group()
    is_receiver = dist.get_rank(group=group) == dst
    collected = [None] * dist.get_world_size(group) if is_receiver else None
    dist.gather_object(data, collected, dst=dst, group=group)
    return collected or []


def shared_random_seed() -> int:
    """Return a random number, the same in all processes, from numpy's generator of the first."""
    return all_gather(int(np.random.randint(2**31)))[0]


def reduce_dict(
    input_dict: dict[str, torch.Tensor], average: bool = True
) -> dict[str, torch.Tensor]:
    """Sum or average scalars with equal names over the processes; valid on the first only."""
    world_size = get_world_size()
    if world_size == 1:
        return input_dict
    names = sorted(input_dict)  # the same order everywhere
    with torch.no_grad():
        values = torch.stack([input_dict[name] for name in names])
        dist.reduce(values, dst=0)
        if average and is_main_process():
            values /= world_size
    return dict(zip(names, values, strict=True))
