"""Which pictures the demo reads and what it writes beside each other, without losing a file."""

import glob
import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from segcore import visualize
from segcore.errors import UserError
from segcore.vocabulary import Vocabulary

PICTURE_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


def find_pictures(inputs: Sequence[str]) -> list[Path]:
    """Files, folders (every picture directly inside) and glob patterns, as one list of files.

    Args:
        inputs: what a user typed; a file may occur several times and is listed once.

    Raises:
        UserError: nothing is there under one of the names, or it may not be read.
    """
    found: dict[Path, None] = {}
    for name in inputs:
        try:
            pictures = _named(name)
        except OSError as error:
            raise UserError(
                f"--input {name:.80}: it cannot be looked into ({error.strerror}); give a picture, "
                "a folder that you may read or a quoted pattern"
            ) from error
        if not pictures:
            is_dir = Path(name).is_dir()
            kind = "a folder without pictures" if is_dir else "no file, folder or pattern"
            raise UserError(
                f"--input {name}: {kind} that can be read here; give a picture, a folder with "
                "pictures or a quoted pattern such as 'photos/*.jpg'"
            )
        found.update(dict.fromkeys(sorted(pictures)))
    return list(found)


def _named(name: str) -> list[Path]:
    """The pictures under one name; OSError where it is too long or may not be read."""
    path = Path(name)
    if path.is_dir():
        return [p for p in path.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES]
    if path.exists():
        return [path]
    matches = glob.glob(name, recursive=True)  # noqa: PTH207  takes absolute patterns too
    return [match for match in map(Path, matches) if match.is_file()]


def name_outputs(pictures: Sequence[Path]) -> dict[Path, str]:
    """A distinct base name for the results of each picture: its stem, numbered where two agree."""
    names, taken = {}, set()
    for picture in pictures:
        numbered = (f"{picture.stem}-{number}" for number in itertools.count(2))
        name = next(n for n in itertools.chain([picture.stem], numbered) if n not in taken)
        taken.add(name)
        names[picture] = name
    return names


class ResultFolder:
    """Writes overlay, label map and legend of each picture, and the vocabulary once.

    The label map is a 16-bit PNG whose values are class ids: places in ``vocabulary.json``.

    Args:
        folder: made if absent.
        vocabulary: the classes that the label maps speak of.
        overwrite: whether files of an earlier run may be replaced.
    """

    KINDS = ("overlay", "labels", "legend")

    def __init__(self, folder: Path, vocabulary: Vocabulary, overwrite: bool = False):
        self.folder, self.vocabulary, self.overwrite = Path(folder), vocabulary, overwrite

    def prepare(self, names: Sequence[str]) -> None:
        """Makes the folder, checks that nothing will be lost, writes the vocabulary.

        Raises:
            UserError: a result is there already, or the folder cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(_unwritable(self.folder, error)) from error
        text = _as_json(self.vocabulary)
        table = self.folder / "vocabulary.json"
        wanted = [self.path(name, kind) for name in names for kind in self.KINDS]
        present = [path for path in wanted if path.exists()]
        if table.exists() and table.read_text(encoding="utf-8") != text:
            present.append(table)
        if present and not self.overwrite:
            more = f" and {len(present) - 1} more" if len(present) > 1 else ""
            raise UserError(
                f"{present[0]}{more} is there already; give another --output, or --overwrite"
            )
        try:
            table.write_text(text, encoding="utf-8")
        except OSError as error:
            raise UserError(_unwritable(table, error)) from error

    def path(self, name: str, kind: str) -> Path:
        """Where the result `kind` (one of KINDS) of a picture goes."""
        return self.folder / f"{name}_{kind}.png"

    def write(self, name: str, image: np.ndarray, labels: np.ndarray, alpha: float) -> None:
        """Writes the results of one picture.

        Args:
            name: base name of the files.
            image: (H, W, 3) uint8, RGB.
            labels: (H, W) class ids.
            alpha: weight of the colours in the overlay.

        Raises:
            UserError: the folder cannot be written.
        """
        names, colors = self.vocabulary.names, self.vocabulary.colors
        drawn = visualize.overlay(image, labels, colors, alpha=alpha)
        results = {
            "overlay": visualize.name_regions(drawn, labels, names, colors),
            "labels": labels.astype(np.uint16),
            "legend": visualize.legend(names, colors, visualize.present_classes(labels)),
        }
        for kind, picture in results.items():
            path = self.path(name, kind)
            try:
                Image.fromarray(picture).save(path)
            except OSError as error:
                raise UserError(_unwritable(path, error)) from error


def _as_json(vocabulary: Vocabulary) -> str:
    """The vocabulary as a file that --vocabulary takes back."""
    columns = zip(
        vocabulary.names, vocabulary.prompts, vocabulary.synonyms, vocabulary.colors, strict=True
    )
    classes = [
        {"name": name, "prompt": prompt, "synonyms": list(words), "color": list(color)}
        for name, prompt, words, color in columns
    ]
    table = {"name": vocabulary.name, "classes": classes}
    return json.dumps(table, indent=1, ensure_ascii=False) + "\n"


def _unwritable(path: Path, error: OSError) -> str:
    reason = error.strerror or type(error).__name__
    return f"cannot write {path}: {reason}; give another --output or free it"
