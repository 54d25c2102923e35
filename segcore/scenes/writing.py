"""A whole Scenes data set on disk.

::

    <root>/scenes-60/scenes.json              the settings, and the hash of every split
    <root>/scenes-60/train/images/000000.png  RGB
    <root>/scenes-60/train/labels/000000.png  uint16: class ids
    <root>/scenes-60/train/captions.tsv       file, caption
    <root>/scenes-60/test/...                 the same
    <root>/scenes-60/demo/...                 the same: twelve pictures to show, not to measure on

A file is written beside its place and then renamed, so that a file that is there is whole. What
is there and readable is kept: the same command continues an interrupted run.
"""

import hashlib
import json
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from segcore.errors import UserError
from segcore.scenes.catalogue import Catalogue
from segcore.scenes.plan import caption, plan_scene
from segcore.scenes.render import render

GENERATOR = 2  # one more whenever the same settings would draw other pictures
NUM_DEMO = 12
SMALLEST_SIZE, LARGEST_SIZE = 32, 2048


@dataclass(frozen=True)
class Settings:
    """What to draw.

    Args:
        num_train: pictures in the split "train", which hold seen classes alone.
        num_test: pictures in the split "test".
        size: their width and height in pixels, 32 to 2048.
        seed: 0 to 2**64 - 1.
    """

    num_train: int
    num_test: int
    size: int = 96
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.num_train, self.num_test) < 0:
            raise UserError("--num-images: the numbers of pictures must not be negative.")
        if not SMALLEST_SIZE <= self.size <= LARGEST_SIZE:
            raise UserError(
                f"--size {self.size}: choose a size from {SMALLEST_SIZE} to {LARGEST_SIZE} pixels."
            )
        if not 0 <= self.seed < 2**64:
            raise UserError(f"--seed {self.seed}: choose a seed from 0 to 2**64 - 1.")

    @property
    def pictures(self) -> dict[str, int]:
        """Number of pictures of every split."""
        return {"train": self.num_train, "test": self.num_test, "demo": NUM_DEMO}


def write_scenes(
    root: Path, catalogue: Catalogue, settings: Settings, *, workers: int = 1
) -> dict[str, str]:
    """Write the data set to ``root / catalogue.name``, keeping the pictures that are there.

    Returns: for every split the SHA-256 of the pixels and labels of all its pictures. It depends
        on the settings and on nothing else.

    Raises:
        UserError: the folder holds pictures of other settings, or cannot be written.
    """
    folder = Path(root) / catalogue.name
    with _writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _agree_with_what_is_there(folder, settings)
        _write_settings(folder, settings, {})
        hashes = {
            split: _write_split(folder / split, catalogue, settings, split, number, workers)
            for split, number in settings.pictures.items()
        }
        _write_settings(folder, settings, hashes)
    return hashes


def _write_split(
    folder: Path, catalogue: Catalogue, settings: Settings, split: str, number: int, workers: int
) -> str:
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for leftover in (folder / name).glob("*.part"):
            leftover.unlink()
    finish = partial(_finish_picture, folder, catalogue, settings, split)
    total = hashlib.sha256()
    rows = ["file\tcaption"]
    with _mapping(workers) as parallel_map:
        results = parallel_map(finish, range(number))
        for index, (digest, text) in enumerate(tqdm(results, desc=split, total=number)):
            total.update(digest)
            rows.append(f"{_file_name(index)}\t{text}")
    _replace(folder / "captions.tsv", lambda path: path.write_text("\n".join(rows) + "\n", "utf-8"))
    return total.hexdigest()


@contextmanager
def _mapping(workers: int) -> Iterator[Callable[[Callable, Sequence], Iterator]]:
    """A ``map`` over so many processes; results come in order."""
    if workers <= 1:
        yield map
        return
    with ProcessPoolExecutor(workers, initializer=_start_worker) as pool:
        yield partial(pool.map, chunksize=16)


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the parent's to report

    def follow_parent() -> None:  # a killed parent cannot tell its workers to stop
        multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
        os._exit(1)

    threading.Thread(target=follow_parent, daemon=True).start()


def _finish_picture(
    folder: Path, catalogue: Catalogue, settings: Settings, split: str, index: int
) -> tuple[bytes, str]:
    """See that a picture is on disk. Returns its hash and caption."""
    scene = plan_scene(catalogue, settings.seed, split, index)
    image_path = folder / "images" / _file_name(index)
    label_path = folder / "labels" / _file_name(index)
    there = _read(image_path, label_path, settings.size)
    if there is None:
        picture = render(scene, settings.size)
        there = picture.image, picture.labels
        with _writing_to(folder):
            for path, array in zip((image_path, label_path), there, strict=True):
                _replace(path, partial(Image.fromarray(array).save, format="PNG"))
    image, labels = there
    return hashlib.sha256(image.tobytes() + labels.astype("<u2").tobytes()).digest(), caption(scene)


def _read(image_path: Path, label_path: Path, size: int) -> tuple[np.ndarray, np.ndarray] | None:
    """The picture and labels on disk, or ``None`` where they are missing or damaged."""
    try:
        with Image.open(image_path) as image, Image.open(label_path) as labels:
            if (image.size, image.mode) != ((size, size), "RGB") or labels.size != image.size:
                return None
            return np.asarray(image), np.asarray(labels).astype(np.uint16)
    except (OSError, SyntaxError):  # Pillow calls a broken PNG chunk a syntax error
        return None


def _agree_with_what_is_there(folder: Path, settings: Settings) -> None:
    path = folder / "scenes.json"
    if not path.exists():
        return
    try:
        there = json.loads(path.read_text("utf-8"))
        pictures = there["pictures"]
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path} is damaged: delete the folder {folder} and start again."
        ) from error
    for key, value in _fixed(settings).items():
        if there.get(key) != value:
            raise UserError(
                f"{folder} holds pictures of {key} {there.get(key)}, not {value}: choose another "
                "--root or delete the folder."
            )
    for split, number in settings.pictures.items():
        if number < pictures.get(split, 0):
            raise UserError(
                f"{folder} is to hold {pictures[split]} {split} pictures, more than {number}: ask "
                "for at least as many, choose another --root, or delete the folder."
            )


def _fixed(settings: Settings) -> dict[str, int]:
    """What all pictures of a folder have in common; their number may grow."""
    return {"generator": GENERATOR, "seed": settings.seed, "size": settings.size}


def _write_settings(folder: Path, settings: Settings, hashes: dict[str, str]) -> None:
    content = {**_fixed(settings), "pictures": settings.pictures, "sha256": hashes}
    text = json.dumps(content, indent=1) + "\n"
    _replace(folder / "scenes.json", lambda path: path.write_text(text, "utf-8"))


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write beside ``path``, then rename: ``path`` never holds half a file."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    write(beside)
    beside.replace(path)


@contextmanager
def _writing_to(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror or error}): choose another --root."
        ) from error


def _file_name(index: int) -> str:
    return f"{index:06d}.png"
