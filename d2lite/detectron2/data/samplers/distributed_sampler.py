"""Samplers that distribute the indices over the processes."""

from collections.abc import Iterator
from itertools import islice

import torch
from torch.utils.data import Sampler

from detectron2.utils import comm


class TrainingSampler(Sampler):
    """An infinite stream of all indices, of which each process takes every n-th.

    Args:
        size: number of items.
        shuffle: whether every round has a fresh order.
        seed: of the order, the same on all processes; drawn and shared where it is None.
    """

    def __init__(self, size: int, shuffle: bool = True, seed: int | None = None) -> None:
        if not isinstance(size, int):
            raise TypeError(f"the size of a data set is a whole number, not {size!r}")
        if size <= 0:
            raise ValueError(f"cannot sample from a data set of size {size}")
        self._size, self._shuffle = size, shuffle
        self._seed = comm.shared_random_seed() if seed is None else int(seed)
        self._rank, self._world_size = comm.get_rank(), comm.get_world_size()

    def __iter__(self) -> Iterator[int]:
        yield from islice(self._infinite_indices(), self._rank, None, self._world_size)

    def _infinite_indices(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed)
        while True:
            if self._shuffle:
                yield from torch.randperm(self._size, generator=generator).tolist()
            else:
                yield from range(self._size)


class InferenceSampler(Sampler):
    """Every index exactly once over all processes, a contiguous block for each process."""

    def __init__(self, size: int) -> None:
        if size <= 0:
            raise AssertionError(f"cannot go through a data set of size {size}")
        self._local_indices = self._get_local_indices(size, comm.get_world_size(), comm.get_rank())

    @staticmethod
    def _get_local_indices(total_size: int, world_size: int, rank: int) -> range:
        shard, longer = divmod(total_size, world_size)
        begin = rank * shard + min(rank, longer)  # the first `longer` processes take one more
        return range(begin, begin + shard + (rank < longer))

    def __iter__(self) -> Iterator[int]:
        yield from self._local_indices

    def __len__(self) -> int:
        return len(self._local_indices)
