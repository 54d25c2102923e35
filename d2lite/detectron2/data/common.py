"""Data sets over lists, maps over data sets, and grouping by aspect ratio."""

import copy
import logging
import pickle
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch.utils.data as torchdata

from detectron2.utils.serialize import PicklableWrapper


class _PackedList:
    """A list of objects, pickled to one array that worker processes share without copies."""

    def __init__(self, items: list) -> None:
        pickles = [pickle.dumps(item, protocol=-1) for item in items]
        self._ends = np.cumsum([len(p) for p in pickles], dtype=np.int64)
        self._bytes = np.frombuffer(b"".join(pickles), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> Any:
        index = range(len(self))[index]  # counts negative ones from the end, refuses those outside
        start = self._ends[index - 1] if index > 0 else 0
        return pickle.loads(memoryview(self._bytes[start : self._ends[index]]))


class DatasetFromList(torchdata.Dataset):
    """A dataset over a list.

    Args:
        lst: the items.
        copy: whether to return deep copies, so that a caller may change what it gets.
        serialize: whether to keep the items pickled, which saves memory with many workers; or a
            function from the list to something with a length and indices.

    Raises:
        TypeError: ``serialize`` is neither a bool nor a function.
    """

    def __init__(self, lst: list, copy: bool = True, serialize: bool | Callable = True) -> None:
        if not isinstance(serialize, bool) and not callable(serialize):
            raise TypeError(f"serialize is a bool or a function, not {serialize!r}")
        self._copy, self._serialize = copy, serialize is not False
        if self._serialize:
            lst = (serialize if callable(serialize) else _PackedList)(lst)
        self._lst = lst

    def __len__(self) -> int:
        return len(self._lst)

    def __getitem__(self, idx: int) -> Any:
        item = self._lst[idx]
        if self._copy and not self._serialize:  # unpickling makes a fresh object anyway
            return copy.deepcopy(item)
        return item


class _MapIterableDataset(torchdata.IterableDataset):
    """An iterable dataset mapped by a function; items that it maps to None are skipped."""

    def __init__(self, dataset: Iterable, map_func: Callable) -> None:
        self._dataset, self._map_func = dataset, PicklableWrapper(map_func)

    def __len__(self) -> int:
        return len(self._dataset)

    def __iter__(self) -> Iterator:
        return (item for item in map(self._map_func, self._dataset) if item is not None)


class MapDataset(torchdata.Dataset):
    """A dataset mapped by a function, which may be a lambda, also for workers started by spawn.

    Where the function returns None, another item replaces it, the same one in every run;
    the index that failed is not drawn again. A stream becomes a stream without those items.
    """

    def __new__(cls, dataset: Any, map_func: Callable) -> Any:
        if isinstance(dataset, torchdata.IterableDataset):
            return _MapIterableDataset(dataset, map_func)
        return super().__new__(cls)

    def __init__(self, dataset: Any, map_func: Callable) -> None:
        self._dataset, self._map_func = dataset, PicklableWrapper(map_func)
        self._rng = random.Random(42)
        self._fallback_candidates = set(range(len(dataset)))
        self._failures = 0

    def __getnewargs__(self) -> tuple:
        return self._dataset, self._map_func

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, idx: int) -> Any:
        index = int(idx)
        while True:
            item = self._map_func(self._dataset[index])
            if item is not None:
                self._fallback_candidates.add(index)
                return item
            self._fallback_candidates.discard(index)
            self._report_failure(index)
            index = self._rng.sample(list(self._fallback_candidates), k=1)[0]

    def _report_failure(self, index: int) -> None:
        self._failures += 1
        logging.getLogger(__name__).warning(
            "Item %d could not be used, another is drawn (%d so far)", index, self._failures
        )
        if not self._fallback_candidates:
            raise ValueError("no item of the dataset can be used: see the warnings before")


class ToIterableDataset(torchdata.IterableDataset):
    """An iterable data set: a data set read in the order of a sampler.

    Args:
        dataset: a data set with indices.
        sampler: yields the indices, the same in every worker.
        shard_sampler: whether each worker takes its shard of the indices.
        shard_chunk_size: how many indices in a row go to one worker.
    """

    def __init__(
        self,
        dataset: torchdata.Dataset,
        sampler: torchdata.Sampler,
        shard_sampler: bool = True,
        shard_chunk_size: int = 1,
    ) -> None:
        if isinstance(dataset, torchdata.IterableDataset):
            raise AssertionError("the data set is a stream already")
        if not isinstance(sampler, torchdata.Sampler):
            raise AssertionError(f"the sampler must be a torch Sampler, not {sampler!r}")
        self.dataset, self.sampler = dataset, sampler
        self.shard_sampler, self.shard_chunk_size = shard_sampler, shard_chunk_size

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator:
        indices: Iterator[int] = iter(self.sampler)
        worker = torchdata.get_worker_info()
        if self.shard_sampler and worker is not None and worker.num_workers > 1:
            indices = _shard(indices, worker.id, worker.num_workers, self.shard_chunk_size)
        return (self.dataset[index] for index in indices)


def _shard(indices: Iterator[int], worker: int, workers: int, chunk: int) -> Iterator[int]:
    """Yield every ``workers``-th chunk of ``chunk`` indices, beginning with chunk ``worker``."""
    for number, index in enumerate(indices):
        if number // chunk % workers == worker:
            yield index


class AspectRatioGroupedDataset(torchdata.IterableDataset):
    """Batches of images that are all landscape or all portrait, which need less padding.

    Args:
        dataset: stream of dicts with "width" and "height".
        batch_size: length of the lists that come out. Items left over at the end wait for the next
            iterator.
    """

    def __init__(self, dataset: Iterable[dict], batch_size: int) -> None:
        self.dataset, self.batch_size = dataset, batch_size
        self._buckets: list[list[dict]] = [[], []]  # tall or square, wide; kept between iterators

    def __iter__(self) -> Iterator[list[dict]]:
        for item in self.dataset:
            bucket = self._buckets[item["width"] > item["height"]]
            bucket.append(item)
            if len(bucket) == self.batch_size:
                batch = bucket[:]
                bucket.clear()  # before the yield, behind which nothing may run
                yield batch
