"""Images read one after the other, a few at a time."""

import logging
from collections.abc import Iterable, Iterator

import numpy as np

from catrank.inputs import Input
from segcore.errors import UserError

Named = tuple[str, np.ndarray]  # an image's name and its pixels (H, W, 3) uint8, RGB

logger = logging.getLogger(__name__)


def batches(inputs: Iterable[Input], size: int, *, skip: bool = False) -> Iterator[list[Named]]:
    """Read images and yield them as lists of ``size`` (name, pixels); the last may be shorter.

    Args:
        inputs: what to read.
        size: of a batch.
        skip: leave out what cannot be read, with a warning.

    Raises:
        UserError: something cannot be read; what was read before is yielded first.
    """
    batch: list[Named] = []
    try:
        for each in inputs:
            try:
                batch.append((each.name, each.read()))
            except UserError as error:
                if not skip:
                    raise
                logger.warning("skipped: %s", error)
            if len(batch) == size:
                yield batch
                batch = []
    except UserError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch
