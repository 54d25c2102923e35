"""Samples of training batches: which records they are, and the seeds of their augmentation."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch.utils.data import Dataset, Sampler

from segcore.errors import UserError
from segcore.mappers.captions import BrokenPairError

from .seeding import seed_sample

MOST_SKIPPED = 100  # pairs in a row: then something else is wrong


class Sample(NamedTuple):
    """An image of a batch: the seeds of its augmentation, and its index in the data set."""

    seed: int
    iteration: int
    index: int  # in the batch of all processes
    image: int


class EndlessBatches(Sampler):
    """This process's part of every batch, without end; a pass can start at any iteration.

    Attributes:
        size: items in this process's part.
        seed, start: of the next pass.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.seed = self.start = 0

    def begin(self, seed: int, iteration: int) -> None:
        """Let the next pass start at the batch of ``iteration``."""
        self.seed, self.start = seed, iteration


class SeededDataset(Dataset):
    """Mapped records; every sample seeds the random numbers of its augmentation.

    A pair of an image and a caption that cannot be read is skipped: the next one replaces it,
    with the reason in ``skipped``.
    """

    def __init__(self, records: Sequence[dict], mapper: Callable[[dict], dict]) -> None:
        self.records, self.mapper = records, mapper

    def __getitem__(self, sample: Sample) -> dict:
        reasons = []
        for index in range(sample.image, sample.image + MOST_SKIPPED):
            seed_sample(sample.seed, sample.iteration, sample.index)
            try:
                item = self.mapper(self.records[index % len(self.records)])
                return item | {"skipped": reasons} if reasons else item
            except BrokenPairError as error:
                reasons.append(str(error))
        raise UserError(f"{MOST_SKIPPED} pairs in a row cannot be read, the first: {reasons[0]}")
