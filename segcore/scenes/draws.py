"""Random numbers that do not depend on the machine, the number of workers or NumPy's version.

Philox is a counter-based generator: its output is a function of a key and a counter, so image 7 is
rendered without the random numbers of images 0 to 6. Only its raw 64-bit words are used: NumPy
guarantees that they never change, but not the output of its ``Generator`` methods.
"""

import zlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")


class Draws:
    """The stream of random numbers of (``seed``, ``stream``, ``index``, ``frame``).

    Args:
        seed: 0 to 2**64 - 1.
        stream: a name, such as ``"scenes-60/train/plan"``; each name has its own numbers.
        index: of the image or video, 0 to 2**64 - 1.
        frame: of the video, 0 to 2**64 - 1.
    """

    def __init__(self, seed: int, stream: str, index: int, frame: int = 0) -> None:
        key = np.array([seed, zlib.crc32(stream.encode())], dtype=np.uint64)
        # The counter's highest words: the streams of two images never overlap.
        counter = np.array([0, 0, frame, index], dtype=np.uint64)
        self._bits = np.random.Philox(key=key, counter=counter)

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """Return a number in [low, high)."""
        return low + (high - low) * (int(self._bits.random_raw()) >> 11) * 2.0**-53

    def integer(self, stop: int) -> int:
        """Return an integer in 0 .. stop - 1."""
        return int(self._bits.random_raw()) * stop >> 64

    def pick(self, items: Sequence[Item]) -> Item:
        """Return one of ``items``, each with the same probability."""
        return items[self.integer(len(items))]

    def order(self, count: int) -> np.ndarray:
        """Return the integers 0 .. count - 1 in random order, int64."""
        return self._bits.random_raw(count).argsort(kind="stable")

    def bytes(self, *shape: int) -> np.ndarray:
        """Return an array of ``shape`` of integers in 0 .. 255, uint8."""
        count = int(np.prod(shape))
        words = np.asarray(self._bits.random_raw(-(-count // 8)), dtype="<u8")
        return words.view(np.uint8)[:count].reshape(shape)

    def lattice(self, rows: int, columns: int) -> np.ndarray:
        """Return an array (rows, columns) of numbers in [0, 1], float32."""
        return self.bytes(rows, columns).astype(np.float32) / 255

    def grain(self, *shape: int) -> np.ndarray:
        """Return nearly normal noise of ``shape``, mean 0, variance 1, float32: sums of 4 bytes."""
        total = self.bytes(4, *shape).astype(np.int32).sum(axis=0)
        deviation = (4 * (256**2 - 1) / 12) ** 0.5
        return (total - 510).astype(np.float32) / np.float32(deviation)
