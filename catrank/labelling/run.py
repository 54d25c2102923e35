"""Label many images; the same call resumes a run that was interrupted."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from catrank.labelling.hashes import model_hash, vocabulary_hash
from catrank.labelling.local import label_here
from catrank.labelling.manifest import remove_partial, write_manifest
from catrank.labelling.plan import Settings, make_plan
from catrank.labelling.ray_engine import Task, check_installed, label_on_ray
from catrank.labelling.shards import is_finished
from catrank.labelling.sources import list_items
from catrank.model import load
from segcore.errors import UserError, printable
from segcore.runtime.files import user_path
from segcore.runtime.lock import hold, release
from segcore.vocabulary import Vocabulary

ENGINES = ("ray", "local")


def label(
    inputs: Sequence[str],
    output: str | os.PathLike[str],
    *,
    loading: dict[str, Any],
    engine: str = "local",
    address: str | None = None,
    workers: int | None = None,
    threads: int = 1,
    batch_size: int = 8,
    shard_size: int = 512,
    label_png: bool = False,
    column: str = "path",
) -> dict[str, Any]:
    """Label images and write Parquet shards and a manifest; finished shards are kept.

    Args:
        inputs: as of :func:`catrank.labelling.sources.list_items`.
        output: a folder of this machine or of a disk that all machines of a cluster share.
        loading: arguments of ``catrank.load``.
        engine: "ray", or "local" for this process alone.
        address: of a Ray cluster; None: Ray is started on this machine.
        workers: that label a shard each; None: one for each GPU, or else for each ``threads``
            processors.
        threads: of the processor that a worker computes with.
        batch_size: images that pass the model together.
        shard_size: images of a shard.
        label_png: write a 16-bit PNG of class ids for each image, too.
        column: of the paths in Parquet files.

    Returns:
        the content of the manifest.

    Raises:
        UserError: an input or the model cannot be used, ``output`` holds labels of other images or
            of other settings, or cannot be written, or Ray fails.
    """
    if engine not in ENGINES:
        raise UserError(f"engine is {engine!r}: use {' or '.join(map(repr, ENGINES))}")
    if engine == "local" and address is not None:
        raise UserError("--address names a Ray cluster: leave it out with --engine local")
    for name, value in (("workers", workers), ("threads", threads), ("batch-size", batch_size),
                        ("shard-size", shard_size)):  # fmt: skip
        if value is not None and value < 1:
            raise UserError(f"--{name} is {value}: use 1 or more")
    if engine == "ray":
        check_installed()
    if "://" in os.fspath(output):
        raise UserError("--output is an address: shards are committed by rename, so name a folder")
    folder = user_path(output).absolute()
    loading = {"device": "auto"} | _portable(loading)
    # The driver of a cluster needs the model for its hash alone, and leaves the GPUs to workers.
    model = load(**loading if engine == "local" else loading | {"device": "cpu"})
    vocabulary = model.vocabulary
    print(f"model: {printable(loading['model'])} ({model.describe()})", flush=True)
    settings = Settings(
        model_hash(model),
        vocabulary_hash(vocabulary),
        model.min_score,
        batch_size,
        shard_size,
        threads,
        label_png,
    )
    with _held(folder):
        remove_partial(folder)
        plan = make_plan(folder, list_items(inputs, column), settings)
        waiting = [number for number in range(plan.shards) if not is_finished(plan, number)]
        done = plan.images - sum(map(plan.size, waiting))
        with tqdm(total=plan.images, initial=done, desc="labelling", unit="image") as bar:
            if waiting and engine == "local":
                on_gpu = model.device.type != "cpu"
                default = 1 if on_gpu else max(1, (os.cpu_count() or 1) // threads)
                label_here(model, plan, waiting, workers or default, bar.update)
            elif waiting:
                del model
                label_on_ray(Task(loading, plan, waiting, workers, address), bar.update)
        return write_manifest(plan, vocabulary)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold the lock of the output folder inside the block."""
    hold(folder, "--output")
    try:
        yield
    finally:
        release()


def _portable(loading: dict[str, Any]) -> dict[str, Any]:
    """Arguments of ``catrank.load`` that mean the same in another folder."""
    made = dict(loading)
    for name in ("model", "config", "ranking"):
        value = made.get(name)
        if isinstance(value, str | os.PathLike) and user_path(value).exists():
            made[name] = str(user_path(value).absolute())
    if made.get("classes") is not None:
        made["classes"] = Vocabulary.load(made["classes"])
    return made
