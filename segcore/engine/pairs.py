"""Training batches of image-text pairs in tar shards, without end; the stream can start anywhere.

The order is that of a reader of shards: the shards are shuffled, read one after the other, and the
pairs shuffled in a buffer. It follows from the seed alone, so that a run may be resumed at any
pair, also with other numbers of processes and workers.
"""

import itertools
import logging
from collections.abc import Iterator, Sequence

import numpy as np
from detectron2.utils import comm

from .samples import EndlessBatches, Sample

logger = logging.getLogger(__name__)


class PairBatches(EndlessBatches):
    """This process's part of every batch of pairs, without end."""

    def __init__(self, lengths: Sequence[int], size: int, *, buffer: int) -> None:
        """
        Args:
            lengths: number of pairs of every shard.
            size: pairs in this process's part.
            buffer: as of :func:`pair_order`.
        """
        super().__init__(size)
        self.lengths, self.buffer = lengths, buffer

    def __iter__(self) -> Iterator[list[Sample]]:
        rank, processes = comm.get_rank(), comm.get_world_size()
        pairs = pair_order(
            self.lengths, self.seed, self.start * self.size * processes, buffer=self.buffer
        )
        for iteration in itertools.count(self.start):
            batch = list(itertools.islice(pairs, self.size * processes))
            yield [
                Sample(self.seed, iteration, index, batch[index])
                for index in range(rank, len(batch), processes)
            ]


def pair_order(lengths: Sequence[int], seed: int, start: int, *, buffer: int) -> Iterator[int]:
    """Yield the indices of pairs without end; each epoch has every pair once, in another order.

    Args:
        lengths: number of pairs of every shard; shard after shard they are numbered from 0.
        seed: of the order.
        start: number of indices to leave out at the beginning.
        buffer: number of successive pairs that are shuffled among each other; 0: all.
    """
    total = sum(lengths)
    for epoch in itertools.count(start // total):
        order = _epoch_order(np.asarray(lengths), seed, epoch, buffer or total)
        yield from map(int, order[start % total :])
        start = 0


def _epoch_order(lengths: np.ndarray, seed: int, epoch: int, buffer: int) -> np.ndarray:
    generator = np.random.default_rng((seed, epoch))
    starts = np.cumsum(lengths) - lengths
    shards = generator.permutation(len(lengths))
    lengths, starts = lengths[shards], starts[shards]
    # Pair by pair: its index, if the shards were read in this order.
    before = np.cumsum(lengths) - lengths
    order = np.repeat(starts - before, lengths) + np.arange(lengths.sum())
    for first in range(0, len(order), buffer):
        generator.shuffle(order[first : first + buffer])
    return order


class SkippedPairs:
    """Counts the pairs that were skipped because they could not be read, and logs some of them."""

    def __init__(self) -> None:
        self.number = 0

    def note(self, batch: Sequence[dict]) -> None:
        """Count, and remove, what :class:`SeededDataset` noted in the items of a batch.

        The 1st, 2nd, 4th, 8th ... skipped pair is logged.
        """
        for item in batch:
            for reason in item.pop("skipped", ()):
                self.number += 1
                if self.number & (self.number - 1) == 0:
                    logger.warning("%d pairs skipped so far; the last: %s", self.number, reason)
