"""Files of multi-label scores: for every image of a data set the logits of all classes.

A classifier of images writes them (``TEST.WRITE_SCORES``); a segmenter of RankSeg's independent
scheme selects classes by them. A file names the images, and has hashes of their list, of the class
names and of the classifier's weights, so that it is not used for others.

Format: safetensors, "logits" (N, K) float32 and "images", a JSON list of N names as uint8; the
hashes are in its metadata.

Shapes: N images, K classes.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath

import safetensors
import safetensors.torch
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from torch import Tensor

from segcore.errors import UserError, printable
from segcore.runtime.files import writing

NAME = "category_scores.safetensors"
FORMAT = "category scores 1"
KEY = "MODEL.RANKSEG.INDEPENDENT.SCORES"
HOW = (
    "`train_net.py --eval-only` with the classifier's config and TEST.WRITE_SCORES True writes them"
)


@dataclass(frozen=True)
class ScoresFile:
    """A file of scores, whose logits are read one image at a time.

    Attributes:
        path: of the file.
        dataset: name of the data set that it was made for.
        images, classes, weights: hashes.
        num_classes: K.
    """

    path: Path
    dataset: str
    images: str
    classes: str
    weights: str
    num_classes: int

    @classmethod
    def open(cls, path: Path) -> "ScoresFile":
        """Read what the file was made for.

        Raises:
            UserError: it is missing, damaged, or no such file.
        """
        if not path.is_file():
            raise UserError(f"{KEY}: there is no file {printable(path)}; {HOW}")
        try:
            with safetensors.safe_open(path, "pt") as file:
                header = file.metadata() or {}
                logits = file.get_slice("logits")
                shape, kind = logits.get_shape(), logits.get_dtype()
        except safetensors.SafetensorError as error:
            raise UserError(
                f"{printable(path)} is no file of scores, or it is damaged: {HOW}"
            ) from error
        fields = [header.get(name) for name in ("dataset", "images", "classes", "weights")]
        if header.get("format") != FORMAT or None in fields or len(shape) != 2 or kind != "F32":
            raise UserError(f"{printable(path)} is no file of scores: {HOW}")
        return cls(path, *fields, num_classes=shape[1])

    @cached_property
    def rows(self) -> dict[str, int]:
        """Indices of the images by their names.

        Raises:
            UserError: the list of images is not the one of the hash.
        """
        with safetensors.safe_open(self.path, "pt") as file:
            text, number = file.get_tensor("images"), file.get_slice("logits").get_shape()[0]
        try:
            names = json.loads(text.numpy().tobytes())
        except ValueError:
            names = None
        if not isinstance(names, list) or hash_of(names) != self.images or len(names) != number:
            raise UserError(f"{printable(self.path)} is damaged: {HOW}")
        return {name: row for row, name in enumerate(names)}

    def logits(self, row: int) -> Tensor:
        """Return the logits (K,) of an image.

        Raises:
            UserError: they are not finite.
        """
        with safetensors.safe_open(self.path, "pt") as file:
            # A view of the whole file's memory, which a worker would send with each image.
            logits = file.get_slice("logits")[row].clone()
        if not logits.isfinite().all():
            raise UserError(f"{printable(self.path)} has scores that are not finite: {HOW}")
        return logits


class ImageScores:
    """The logits of all images of data sets, by their file names."""

    def __init__(self, source: str, datasets: Sequence[str]) -> None:
        """
        Args:
            source: a file of scores, or a folder of such files.
            datasets: names of registered data sets.

        Raises:
            UserError: there is no file for the images and classes of a data set, or the files are
                of several classifiers.
        """
        files = [ScoresFile.open(path) for path in _paths(source)]
        self._found: dict[str, tuple[ScoresFile, int]] = {}
        used: list[ScoresFile] = []
        for dataset in datasets:
            names = image_names(dataset)
            file = _file_for(dataset, hash_of(list(names.values())), files)
            if used and file.weights != used[0].weights:
                raise UserError(
                    f"{printable(used[0].path)} and {printable(file.path)} were written by "
                    f"different checkpoints of a classifier: write both with one ({KEY})"
                )
            used.append(file)
            self._found |= {path: (file, file.rows[name]) for path, name in names.items()}

    def __getitem__(self, file_name: str) -> Tensor:
        """Return the logits (K,) of an image.

        Raises:
            UserError: it belongs to none of the data sets.
        """
        if file_name not in self._found:
            raise UserError(f"{printable(file_name)} has no scores in {KEY}; {HOW}")
        file, row = self._found[file_name]
        return file.logits(row)


def write_scores(
    path: Path, dataset: str, names: Sequence[str], logits: Tensor, weights: str
) -> None:
    """Write a file of scores.

    Args:
        path: its name.
        dataset: name of a registered data set, whose classes the logits are of.
        names: of the images, N.
        logits: (N, K).
        weights: hash of the classifier's weights.

    Raises:
        UserError: the file cannot be written.
    """
    text = torch.frombuffer(bytearray(json.dumps(list(names)).encode()), dtype=torch.uint8)
    header = {
        "format": FORMAT,
        "dataset": dataset,
        "images": hash_of(list(names)),
        "classes": classes_hash(dataset),
        "weights": weights,
    }
    content = {"logits": logits.float().contiguous(), "images": text}
    with writing(path) as file:
        file.write(safetensors.torch.save(content, header))


def image_names(dataset: str) -> dict[str, str]:
    """Return {file: name} of a data set's images; a name is the path below the folder of images."""
    root = PurePath(MetadataCatalog.get(dataset).get("image_root", ""))
    names = {}
    for record in DatasetCatalog.get(dataset):
        path = PurePath(record["file_name"])
        names[record["file_name"]] = (
            path.relative_to(root) if path.is_relative_to(root) else path
        ).as_posix()
    return names


def classes_hash(dataset: str) -> str:
    """Return a hash of a data set's class names in their order."""
    return hash_of(list(MetadataCatalog.get(dataset).stuff_classes))


def hash_of(names: Sequence[str]) -> str:
    """Return a hash of a list of names."""
    return hashlib.sha256(json.dumps(names).encode()).hexdigest()


def _paths(source: str) -> list[Path]:
    """Return the files of a folder, or the file itself."""
    if not source:
        raise UserError(f"{KEY} is empty: name the folder of the scores; {HOW}")
    path = Path(source)
    found = sorted(path.rglob(NAME)) if path.is_dir() else [path]
    if not found:
        raise UserError(f"{KEY}: the folder {printable(path)} has no {NAME}; {HOW}")
    return found


def _file_for(dataset: str, images: str, files: Sequence[ScoresFile]) -> ScoresFile:
    """Return the file of a data set's images and classes."""
    fitting = [file for file in files if file.images == images]
    if not fitting:
        listed = ", ".join(f"{printable(file.path)} ({printable(file.dataset)})" for file in files)
        raise UserError(f"{KEY} was made for other images than those of {dataset}: {listed}; {HOW}")
    same = [file for file in fitting if file.classes == classes_hash(dataset)]
    if not same:
        raise UserError(
            f"{printable(fitting[0].path)} was made for other classes than those of {dataset} "
            f"({fitting[0].num_classes} of {printable(fitting[0].dataset)}): name scores of the "
            f"same classes in {KEY}"
        )
    return same[0]
