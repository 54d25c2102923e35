"""Write the files for the servers of benchmarks: label maps of videos, and tracks.

VSPW takes a folder a video with a PNG a frame, ``<video>/<frame>.png``, whose pixels are class ids
from 0 (its label maps have class id + 1), as the benchmark's evaluation (github.com/VSPW-dataset)
reads them. YouTube-VIS takes one ``results.json`` (codalab.org, competition 20128).
"""

import heapq
import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from segcore.errors import UserError
from segcore.runtime.files import replace, writing


def write_label_map(path: Path, labels: np.ndarray) -> None:
    """Write class ids (H, W) below 256 as a grey PNG.

    Raises:
        UserError: the file or its folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, Image.fromarray(labels.astype(np.uint8)).save)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


class PredictionFile:
    """The predictions of one process, a line a video; an interrupted evaluation can resume it.

    A line is ``[index of the video in the data set, [prediction, ...]]``;
    :func:`join_predictions` merges the files of all processes by the index.
    """

    def __init__(self, folder: Path, rank: int, num_processes: int) -> None:
        self.path = folder / f"results-{rank}-of-{num_processes}.jsonl"
        self.size = 0

    def add(self, index: int, predictions: list[dict[str, Any]]) -> None:
        """Append the predictions for a video.

        Raises:
            UserError: the file or its folder cannot be written.
        """
        line = json.dumps([index, predictions], separators=(",", ":")).encode() + b"\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if not self.size:  # remove the file of another run, or a link to anywhere
                self.path.unlink(missing_ok=True)
            with self.path.open("ab") as file:
                file.truncate(self.size)  # remove lines of an interrupted run beyond its state
                file.write(line)
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror}") from error
        self.size += len(line)

    def resume_at(self, size: int) -> None:
        """Keep the first ``size`` bytes, and append to them.

        Raises:
            UserError: the file is shorter.
        """
        if size and (not self.path.is_file() or self.path.stat().st_size < size):
            raise UserError(f"{self.path} is missing or shorter than it was")
        self.size = size


def join_predictions(folder: Path, sizes: list[int]) -> Path:
    """Merge the files of all processes into ``results.json`` and remove them.

    Videos are in the order of the data set; one is in memory at a time.

    Args:
        folder: of the files.
        sizes: number of bytes that each process has written.

    Raises:
        UserError: a file cannot be read or written.
    """
    parts = [PredictionFile(folder, rank, len(sizes)).path for rank in range(len(sizes))]
    parts = [part for part, size in zip(parts, sizes, strict=True) if size]
    path = folder / "results.json"
    with ExitStack() as stack, writing(path) as file:
        lines = [map(json.loads, stack.enter_context(part.open("rb"))) for part in parts]
        file.write(b"[")
        between = b"\n"
        for _, predictions in heapq.merge(*lines, key=lambda line: line[0]):
            for prediction in predictions:
                file.write(between + json.dumps(prediction, separators=(",", ":")).encode())
                between = b",\n"
        file.write(b"\n]\n")
    for part in parts:
        part.unlink()
    return path
