"""The plan of a labelling: its images in their order, cut into shards.

``plan.parquet`` in the output folder lists the images, a row group a shard, so that a worker reads
those of its shard alone. ``plan.json``, written last, holds a hash of that list and the settings.
"""

import hashlib
import json
import os
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from catrank.exports.files import save_json, unwritable
from catrank.labelling.sources import Item
from segcore.errors import UserError, printable
from segcore.runtime.files import replacing

FILE, LIST = "plan.json", "plan.parquet"
VERSION = 1  # of the files in the output folder
CHUNK = 10_000  # images in memory while they are listed

ITEMS = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("path", pa.binary(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("problem", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True)
class Settings:
    """All but the images that the labels depend on.

    Attributes:
        model: hash of config and weights.
        vocabulary: hash of the classes.
        min_score: of objects.
        batch_size: images that pass the model together.
        shard_size: images of a shard.
        threads: of the processor that a worker computes with.
        label_png: whether each image gets a PNG of class ids.
    """

    model: str
    vocabulary: str
    min_score: float
    batch_size: int
    shard_size: int
    threads: int
    label_png: bool


# What users call the settings.
NAMES = {
    "model": "another model, or another config of it",
    "vocabulary": "another vocabulary",
    "min_score": "another --min-score",
    "batch_size": "another --batch-size",
    "shard_size": "another --shard-size",
    "threads": "another --threads",
    "label_png": "and without --png",
}


@dataclass(frozen=True)
class Plan:
    """The plan in an output folder.

    Attributes:
        folder: the output folder.
        settings: of the labelling.
        source: hash of the list of images.
        images: how many there are.
    """

    folder: Path
    settings: Settings
    source: str
    images: int

    @classmethod
    def load(cls, folder: Path) -> "Plan":
        """Read the plan of an output folder.

        Raises:
            UserError: it is damaged, or of another version.
        """
        path = folder / FILE
        try:
            table = json.loads(path.read_text("utf-8"))
            if table["version"] != VERSION:
                raise ValueError(f"version {table['version']}")
            return cls(folder, Settings(**table["settings"]), table["source"], table["images"])
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{printable(path)} cannot be used ({printable(error)}): give another --output"
            ) from error

    @property
    def hash(self) -> str:
        """A hash of images and settings, which every shard holds."""
        text = json.dumps([VERSION, self.source, asdict(self.settings)])
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def shards(self) -> int:
        """The number of shards."""
        return -(-self.images // self.settings.shard_size)

    def size(self, number: int) -> int:
        """Return the number of images of a shard."""
        return min(self.settings.shard_size, self.images - number * self.settings.shard_size)

    def items(self, number: int) -> list[Item]:
        """Return the images of a shard."""
        with pq.ParquetFile(self.folder / LIST) as file:
            return [Item(**row) for row in file.read_row_group(number).to_pylist()]

    def save(self) -> None:
        """Write ``plan.json``.

        Raises:
            UserError: it cannot be written.
        """
        table = {"version": VERSION, "source": self.source, "images": self.images}
        save_json(table | {"settings": asdict(self.settings)}, self.folder / FILE)


def make_plan(folder: Path, items: Iterable[Item], settings: Settings) -> Plan:
    """Write the plan of an output folder, or find that it is the one that is there.

    Args:
        folder: the output folder, which exists.
        items: the images; of those with one key the first is labelled.
        settings: of the labelling.

    Raises:
        UserError: the plan that is there has other settings or other images; or the folder cannot
            be written.
    """
    there = (folder / FILE).exists()
    if there:
        _compare_settings(Plan.load(folder), settings)
    try:
        with replacing(folder / LIST) as path:
            source, images = _write_list(path, items, settings.shard_size)
            plan = Plan(folder, settings, source, images)
            if there and Plan.load(folder) != plan:
                raise UserError(
                    f"{printable(folder)} holds labels of other images ("
                    f"{Plan.load(folder).images:,} then, {images:,} now, or under other names): "
                    "give another --output"
                )
    except OSError as error:
        raise UserError(unwritable(folder / LIST, error)) from error
    plan.save()
    return plan


def _compare_settings(plan: Plan, settings: Settings) -> None:
    for field in fields(Settings):
        if getattr(plan.settings, field.name) != getattr(settings, field.name):
            raise UserError(
                f"{printable(plan.folder)} holds labels with {NAMES[field.name]}: give another "
                "--output, or the options of that run"
            )


def _write_list(path: Path, items: Iterable[Item], shard_size: int) -> tuple[str, int]:
    """Write a row group a shard; return a hash of all rows and their number.

    Repeated keys are found by 8 bytes an image: a draft of all rows is written first.
    """
    draft, hashes = path.with_name(f"{path.name}.draft"), array("Q")
    try:
        with pq.ParquetWriter(draft, ITEMS) as writer:
            rest = iter(items)
            while chunk := [*islice(rest, CHUNK)]:
                hashes.extend(_short_hash(item.key) for item in chunk)
                writer.write_table(_table(chunk))
        digest, count = hashlib.sha256(), 0
        rest = _distinct(draft, hashes)
        with pq.ParquetWriter(path, ITEMS) as writer:
            while chunk := [*islice(rest, shard_size)]:
                count += len(chunk)
                for item in chunk:
                    row = [item.key, item.path.hex(), item.offset, item.size, item.problem]
                    digest.update(json.dumps(row).encode())
                writer.write_table(_table(chunk), row_group_size=shard_size)
        with path.open("rb") as file:
            os.fsync(file.fileno())
    finally:
        draft.unlink(missing_ok=True)
    return digest.hexdigest(), count


def _distinct(draft: Path, hashes: "array[int]") -> Iterator[Item]:
    """The items of a draft, of those with one key the first."""
    values, counts = np.unique(np.frombuffer(hashes, np.uint64), return_counts=True)
    suspects = {*values[counts > 1].tolist()}
    seen = set()
    with pq.ParquetFile(draft) as file:
        for batch in file.iter_batches(CHUNK):
            for row in batch.to_pylist():
                if suspects and _short_hash(row["key"]) in suspects:
                    if row["key"] in seen:
                        continue
                    seen.add(row["key"])
                yield Item(**row)


def _short_hash(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little")


def _table(items: list[Item]) -> pa.Table:
    columns: dict[str, Any] = {
        name: [getattr(item, name) for item in items] for name in ITEMS.names
    }
    return pa.table(columns, schema=ITEMS)
