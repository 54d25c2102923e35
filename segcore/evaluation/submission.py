"""What the servers of benchmarks want: label maps of videos, and returns tracks.

VSPW takes a folder a video with a PNG a frame, ``<video>/<frame>.png``, whose pixels are class ids
from 0 (not the values of its own label maps, which are greater by one), as the benchmark's own
evaluation (github.com/VSPW-dataset) reads them. YouTube-VIS takes one ``results.json``
(codalab.org, competition 20128).
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
    """The predictions of one process, a line a video, which may go on where it was interrupted.

    A line is ``[place of the video in the data set, [prediction, ...]]``, by which
    :func:`join_predictions` merges the files of all processes.
    """

    def __init__(self, folder: Path, rank: int, num_processes: int) -> None:
        self.path = folder / f"results-{rank}-of-{num_processes}.jsonl"
        self.size = 0

    def add(self, place: int, predictions: list[dict[str, Any]]) -> None:
        """Append the predictions for a video.

        Raises:
            UserError: the file or its folder cannot be written.
        """
        line = json.dumps([place, predictions], separators=(",", ":")).encode() + b"\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if not self.size:  # what another run has left, or a link to anywhere
                self.path.unlink(missing_ok=True)
            with self.path.open("ab") as file:
                file.truncate(self.size)  # what an interrupted run has written beyond its state
                file.write(line)
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror}") from error
        self.size += len(line)

    def go_on_at(self, size: int) -> None:
        """Keep the first bytes, and write behind them.

        Raises:
            UserError: the file does not have that many.
        """
        if size and (not self.path.is_file() or self.path.stat().st_size < size):
            raise UserError(f"{self.path} is gone or shorter than it was")
        self.size = size


def join_predictions(folder: Path, sizes: list[int]) -> Path:
    """Make ``results.json`` of the files of all processes and remove these; videos in the order of
    the data set, one in memory at a time.

    Args:
        folder: where the files are.
        sizes: how many bytes each process has written.

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
