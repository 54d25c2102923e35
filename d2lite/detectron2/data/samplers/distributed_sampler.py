"""Samplers that share the work out among the processes."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice

import torch
from torch.utils.data import Sampler

from detectron2.utils import comm


class TrainingSampler(Sampler):
    """All indices again and again in one endless stream, of which each process takes every n-th.

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
            yield from self._round(generator).tolist()

    def _round(self, generator: torch.Generator) -> torch.Tensor:
        """Indices of the next round, in their order."""
        if self._shuffle:
            return torch.randperm(self._size, generator=generator)
        return torch.arange(self._size)


class RandomSubsetTrainingSampler(TrainingSampler):
    """A :class:`TrainingSampler` over a random part of the items.

    Args:
        size: number of items.
        subset_ratio: which share of them to use, in (0, 1].
        shuffle: whether every round has a fresh order.
        seed_shuffle: of the order, the same on all processes; drawn and shared where it is None.
        seed_subset: likewise, of the choice of the items.
    """

    def __init__(
        self,
        size: int,
        subset_ratio: float,
        shuffle: bool = True,
        seed_shuffle: int | None = None,
        seed_subset: int | None = None,
    ) -> None:
        super().__init__(size, shuffle, seed_shuffle)
        self._size_subset = int(size * subset_ratio)
        if not 0.0 < subset_ratio <= 1.0 or self._size_subset == 0:
            raise AssertionError(f"a share of {subset_ratio} of {size} items is no subset")
        seed = comm.shared_random_seed() if seed_subset is None else int(seed_subset)
        order = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
        self._indexes_subset = order[: self._size_subset]

    def _round(self, generator: torch.Generator) -> torch.Tensor:
        if not self._shuffle:
            return self._indexes_subset
        return self._indexes_subset[torch.randperm(self._size_subset, generator=generator)]


class RepeatFactorTrainingSampler(TrainingSampler):
    """A :class:`TrainingSampler` that gives each item as often in a round as its factor says.

    The fraction of a factor is the chance of one repetition more, drawn anew in every round.

    Args:
        repeat_factors: (N,) floats.
        shuffle: whether every round has a fresh order.
        seed: of order and repetitions, the same on all processes; drawn and shared where it is
            None.
    """

    def __init__(
        self, repeat_factors: torch.Tensor, *, shuffle: bool = True, seed: int | None = None
    ) -> None:
        super().__init__(len(repeat_factors), shuffle, seed)
        self._int_part = torch.trunc(repeat_factors)
        self._frac_part = repeat_factors - self._int_part

    @staticmethod
    def repeat_factors_from_category_frequency(
        dataset_dicts: Sequence[dict], repeat_thresh: float, sqrt: bool = True
    ) -> torch.Tensor:
        """Compute a factor for every record from its rarest category.

        A category that stands in a share f of the records has the factor max(1, sqrt(t / f)), the
        threshold being t (Gupta et al., "LVIS: A Dataset for Large Vocabulary Instance
        Segmentation", CVPR 2019, appendix). A record has the largest factor of its categories.

        Args:
            dataset_dicts: records with "annotations".
            repeat_thresh: share of records below which a category is repeated.
            sqrt: whether to take the root.

        Returns:
            (N,) float32.
        """
        categories = [{a["category_id"] for a in r["annotations"]} for r in dataset_dicts]
        counts = Counter(category for found in categories for category in found)
        factors = {}
        for category, count in counts.items():
            factor = repeat_thresh / (count / len(dataset_dicts))
            factors[category] = max(1.0, math.sqrt(factor) if sqrt else factor)
        return torch.tensor([max((factors[c] for c in found), default=1.0) for found in categories])

    def _round(self, generator: torch.Generator) -> torch.Tensor:
        draws = torch.rand(len(self._frac_part), generator=generator)
        repeats = (self._int_part + (draws < self._frac_part)).long()
        indices = torch.repeat_interleave(torch.arange(len(repeats)), repeats)
        if not self._shuffle:
            return indices
        return indices[torch.randperm(len(indices), generator=generator)]


class InferenceSampler(Sampler):
    """Every index exactly once over all processes, each process a block of neighbours."""

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


def weighted_factors(
    repeats: Sequence[tuple[str, float]], parts: dict[str, list[dict]], by_category: torch.Tensor
) -> torch.Tensor:
    """Combine factors of datasets with factors of records.

    Args:
        repeats: pairs of a dataset's name and its factor; 1 for those that are not named.
        parts: the records of each dataset, by name, in the order in which they are joined.
        by_category: (N,) factors of the joined records, or one number.

    Returns:
        (N,) products.
    """
    by_dataset = dict(repeats)
    if unknown := by_dataset.keys() - parts.keys():
        raise AssertionError(
            f"DATASETS.TRAIN_REPEAT_FACTOR names {', '.join(sorted(unknown))}, but DATASETS.TRAIN "
            "does not"
        )
    factors = [by_dataset.get(name, 1) for name, part in parts.items() for _ in part]
    return by_category * torch.tensor(factors, dtype=torch.float32)
