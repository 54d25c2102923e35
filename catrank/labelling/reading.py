"""Read labels back, in the order of the images."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from catrank.labelling.plan import Plan
from catrank.labelling.shards import shard_path
from segcore.errors import UserError, printable
from segcore.outlines import decode_mask
from segcore.runtime.files import user_path


@dataclass(frozen=True)
class Labels:
    """The labels of an image.

    Attributes:
        row: all columns of its row, see ``catrank.labelling.records.SCHEMA``.
    """

    row: dict[str, Any]

    @property
    def key(self) -> str:
        """Identifies the image: its path, or its archive and member."""
        return str(self.row["key"])

    @property
    def error(self) -> str | None:
        """Why there are no labels; None where there are."""
        error: str | None = self.row["error"]
        return error

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the image; (0, 0) where it could not be read."""
        return self.row["height"] or 0, self.row["width"] or 0

    @property
    def segments(self) -> list[dict[str, Any]]:
        """Id, class, score, area, box and RLE of each segment."""
        return self.row["segments"] or []

    def mask(self, index: int) -> np.ndarray:
        """Return the pixels of a segment, (H, W) bool.

        Raises:
            UserError: its RLE is damaged.
        """
        rle = {"size": [*self.size], "counts": self.segments[index]["rle"]}
        return decode_mask(rle, self.size, f"segment {index} of {printable(self.key)}")

    def class_map(self) -> np.ndarray:
        """Return the class id of each pixel, (H, W) int32, -1 = none; where objects overlap, that
        of the one with the highest score."""
        classes = np.full(self.size, -1, dtype=np.int32)
        for index in reversed(range(len(self.segments))):  # the best are first
            classes[self.mask(index)] = self.segments[index]["class_id"]
        return classes


def read_labels(folder: str | os.PathLike[str]) -> Iterator[Labels]:
    """Yield the labels of all images in the order of the plan, a shard in memory at a time.

    Args:
        folder: an output folder of ``catrank label``.

    Raises:
        UserError: it holds no labels, or not yet all.
    """
    plan = Plan.load(user_path(folder))
    for number in range(plan.shards):
        path = shard_path(plan, number)
        if not path.is_file():
            raise UserError(f"{printable(path)} is not there: let the same catrank label finish")
        for row in pq.read_table(path).to_pylist():
            yield Labels(row)
