"""Samplers that share the work out among the processes."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice

import torch
from torch.utils.data import Sampler

from detectron2.utils import comm


class _EndlessSampler(Sampler):
    """Epoch after epoch of indices in one stream, of which each process takes every n-th."""

    def __init__(self, shuffle: bool, seed: int | None) -> None:
        self._shuffle = shuffle
        self._seed = comm.shared_random_seed() if seed is None else int(seed)
        self._rank, self._world_size = comm.get_rank(), comm.get_world_size()

    def __iter__(self) -> Iterator[int]:
        yield from islice(self._stream(), self._rank, None, self._world_size)

    def _stream(self) -> Iterator[int]:
        generator = torch.Generator()
        generator.manual_seed(self._seed)
        while True:
            indices = self._epoch(generator)
            if self._shuffle:
                indices = indices[torch.randperm(len(indices), generator=generator)]
            yield from indices.tolist()

    def _epoch(self, generator: torch.Generator) -> torch.Tensor:
        raise NotImplementedError


class TrainingSampler(_EndlessSampler):
    """All indices again and again, in a fresh order every time.

    Args:
        size: number of items.
        shuffle: whether the order changes at all.
        seed: of the order, the same on all processes; drawn and shared where it is None.
    """

    def __init__(self, size: int, shuffle: bool = True, seed: int | None = None) -> None:
        if not isinstance(size, int):
            raise TypeError(f"the size of a data set is a whole number, not {size!r}")
        if size <= 0:
            raise ValueError(f"cannot sample from a data set of size {size}")
        super().__init__(shuffle, seed)
        self._size = size

    def _epoch(self, generator: torch.Generator) -> torch.Tensor:
        return torch.arange(self._size)

    def __iter__(self) -> Iterator[int]:
        return super().__iter__()


class RepeatFactorTrainingSampler(_EndlessSampler):
    """Like :class:`TrainingSampler`, with items that occur more than once in an epoch.

    Args:
        repeat_factors: (N,) how often each item occurs; the fraction is the chance of once more.
    """

    def __init__(
        self, repeat_factors: torch.Tensor, *, shuffle: bool = True, seed: int | None = None
    ) -> None:
        super().__init__(shuffle, seed)
        self._whole = torch.trunc(repeat_factors)
        self._fraction = repeat_factors - self._whole

    def _epoch(self, generator: torch.Generator) -> torch.Tensor:
        once_more = torch.rand(len(self._fraction), generator=generator) < self._fraction
        times = (self._whole + once_more).long()
        return torch.arange(len(times)).repeat_interleave(times)

    def __iter__(self) -> Iterator[int]:
        return super().__iter__()

    @staticmethod
    def repeat_factors_from_category_frequency(
        dataset_dicts: Sequence[dict], repeat_thresh: float, sqrt: bool = True
    ) -> torch.Tensor:
        """Repeat pictures with rare classes.

        A class that occurs in a share f of the pictures asks for a factor of
        ``repeat_thresh / f`` (or its root), at least 1; a picture gets the largest of its classes'.

        Returns:
            (N,) float factors, one per record; records need "annotations" with "category_id".
        """
        classes = [{a["category_id"] for a in d["annotations"]} for d in dataset_dicts]
        pictures_with = Counter(c for present in classes for c in present)

        def factor(category: int) -> float:
            wanted = repeat_thresh * len(dataset_dicts) / pictures_with[category]
            return max(1.0, math.sqrt(wanted) if sqrt else wanted)

        factors = [max(map(factor, present), default=1.0) for present in classes]
        return torch.tensor(factors, dtype=torch.float32)


class InferenceSampler(Sampler):
    """Every index exactly once over all processes, each process a block of neighbours."""

    def __init__(self, size: int) -> None:
        if size <= 0:
            raise AssertionError(f"cannot go through a data set of size {size}")
        share, longer = divmod(size, comm.get_world_size())
        rank = comm.get_rank()
        begin = rank * share + min(rank, longer)  # the first `longer` processes take one more
        self._indices = range(begin, begin + share + (rank < longer))

    def __iter__(self) -> Iterator[int]:
        yield from self._indices

    def __len__(self) -> int:
        return len(self._indices)
