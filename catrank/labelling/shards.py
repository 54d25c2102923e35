"""Label the images of a shard, and commit the shard: it is there as a whole or not at all.

Images are read by threads ahead of the model, and results encoded by another thread behind it. No
batch holds images of two shards, so that a shard's bytes depend on its images and the settings
alone: not on the worker, the engine, or an earlier run that was killed.
"""

import hashlib
import io
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from catrank.exports.files import make_folder
from catrank.exports.label_png import write_label_png
from catrank.labelling.plan import Plan
from catrank.labelling.records import SCHEMA, result_row
from catrank.labelling.sources import Item, read_item
from catrank.model import Model
from catrank.results import Result
from segcore.errors import MESSAGE_CHARACTERS, UserError, printable
from segcore.runtime.files import writing

READERS = 4  # threads of a worker that read images, most of whose time is waiting
AHEAD = 2  # batches that are read ahead of the model, and that wait behind it to be encoded
LABELS, PNGS = "labels", "png"  # folders in the output folder
PLAN_KEY = b"catrank.plan"  # in the metadata of a shard


class Stopped(Exception):
    """The run has ended while a shard was being labelled."""


@dataclass(frozen=True)
class Shard:
    """A finished shard.

    Attributes:
        name: of the file.
        rows: images.
        errors: rows with an error.
        sha256: of the file, hex.
    """

    name: str
    rows: int
    errors: int
    sha256: str


def shard_path(plan: Plan, number: int) -> Path:
    """Return the path of a shard."""
    return plan.folder / LABELS / f"part-{number:06d}.parquet"


def is_finished(plan: Plan, number: int) -> bool:
    """Whether a shard is there, and of this plan."""
    try:
        found = pq.read_metadata(shard_path(plan, number))
    except (OSError, pa.ArrowException):
        return False
    metadata = found.metadata or {}
    return found.num_rows == plan.size(number) and metadata.get(PLAN_KEY) == plan.hash.encode()


def read_shard(plan: Plan, number: int) -> Shard:
    """Describe a finished shard."""
    path = shard_path(plan, number)
    content = path.read_bytes()
    errors = pq.read_table(io.BytesIO(content), columns=["error"])["error"]
    digest = hashlib.sha256(content).hexdigest()
    return Shard(path.name, len(errors), len(errors) - errors.null_count, digest)


def label_shard(
    model: Model,
    plan: Plan,
    number: int,
    *,
    advance: Callable[[int], object] | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Label the images of a shard and commit it.

    Args:
        model: that of the plan.
        plan: of the run.
        number: of the shard, from 0.
        advance: is called with the number of images of each batch when they are labelled.
        stop: ends the work between two batches when it is set.

    Raises:
        UserError: the output cannot be written.
        Stopped: ``stop`` was set.
    """
    items, size = plan.items(number), plan.settings.batch_size
    batches = [items[start : start + size] for start in range(0, len(items), size)]
    rows: list[dict[str, Any]] = []
    readers, encoder = ThreadPoolExecutor(READERS), ThreadPoolExecutor(1)
    reading: deque[list[Future]] = deque()
    encoding: deque[Future] = deque()
    try:
        for index in range(len(batches)):
            while len(reading) <= AHEAD and index + len(reading) < len(batches):
                batch = batches[index + len(reading)]
                reading.append([readers.submit(_read, item) for item in batch])
            images = [future.result() for future in reading.popleft()]
            if stop is not None and stop.is_set():
                raise Stopped
            results = _segment(model, images)
            encoding.append(
                encoder.submit(_rows, plan, number, index * size, batches[index], results)
            )
            while len(encoding) > AHEAD:
                rows += encoding.popleft().result()
            if advance is not None:
                advance(len(images))
        while encoding:
            rows += encoding.popleft().result()
    finally:
        readers.shutdown(cancel_futures=True)
        encoder.shutdown(cancel_futures=True)
    _commit(plan, number, rows)


def _read(item: Item) -> np.ndarray | str:
    """The pixels of an image, or why there are none."""
    try:
        return read_item(item)
    except UserError as error:
        return str(error)


def _segment(model: Model, images: Sequence[np.ndarray | str]) -> list[Result | str]:
    """Results of images, or why there are none.

    Where a batch fails, as it does when memory runs out, each image of it is segmented alone.
    """
    readable = [image for image in images if not isinstance(image, str)]
    try:
        results: list[Result | str] = [*model.segment(readable, batch_size=len(readable) or 1)]
    except Exception as error:
        _check_survivable(error)
        results = [_segment_alone(model, image) for image in readable]
    rest = iter(results)
    return [image if isinstance(image, str) else next(rest) for image in images]


def _segment_alone(model: Model, image: np.ndarray) -> Result | str:
    try:
        result: Result = model.segment(image)
        return result
    except Exception as error:
        _check_survivable(error)
        text = f"the model fails on this image ({type(error).__name__}: {error})"
        return printable(text, MESSAGE_CHARACTERS)


def _check_survivable(error: Exception) -> None:
    """Raise an error of the device itself, after which no image can be segmented."""
    if isinstance(error, getattr(torch, "AcceleratorError", ())):
        raise error


def _rows(
    plan: Plan,
    number: int,
    first: int,
    items: Sequence[Item],
    results: Sequence[Result | str],
) -> list[dict[str, Any]]:
    """The rows of a batch that begins at row ``first`` of its shard."""
    rows = []
    hashes = {"model": plan.settings.model, "vocabulary": plan.settings.vocabulary}
    for index, (item, result) in enumerate(zip(items, results, strict=True), first):
        row: dict[str, Any] = {"key": item.key, **hashes}
        if isinstance(result, str):
            row["error"] = result
        else:
            row |= result_row(result)
            if plan.settings.label_png:
                row["label_png"] = f"{PNGS}/{number:06d}/{index:06d}.png"
                path = plan.folder / row["label_png"]
                make_folder(path.parent)
                write_label_png(result.labels, path)
        rows.append(row)
    return rows


def _commit(plan: Plan, number: int, rows: list[dict[str, Any]]) -> None:
    table = pa.Table.from_pylist(rows, SCHEMA.with_metadata({PLAN_KEY: plan.hash}))
    content = io.BytesIO()
    pq.write_table(table, content, compression="zstd", compression_level=3)
    with writing(shard_path(plan, number)) as file:
        file.write(content.getbuffer())
