"""A folder of results: overlay, label map, legend and a list of its segments for each image."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from catrank.exports.files import as_json, make_folder, save_image, save_json
from catrank.results import Result
from segcore.errors import UserError, printable
from segcore.outlines import encode_mask
from segcore.vocabulary import Vocabulary


class ResultFolder:
    """Write overlay, label map and legend of each image, and the vocabulary once.

    The label map is a 16-bit PNG. Its values are class ids, indices in ``vocabulary.json``, or the
    ids of segments, of which a fourth file then says what they are.

    Args:
        folder: made if absent.
        vocabulary: the classes that the results speak of.
        overwrite: whether files of an earlier run may be replaced.
    """

    # The first three there are of every image.
    KINDS = ("overlay.png", "labels.png", "legend.png", "segments.json", "categories.json")

    def __init__(self, folder: Path, vocabulary: Vocabulary, overwrite: bool = False) -> None:
        self.folder, self.vocabulary, self.overwrite = Path(folder), vocabulary, overwrite

    def prepare(self, names: Iterable[str]) -> None:
        """Make the folder, check that nothing will be lost, write the vocabulary.

        Raises:
            UserError: a result is there already, or the folder cannot be written.
        """
        make_folder(self.folder)
        table, content = self.folder / "vocabulary.json", self.vocabulary.to_table()
        wanted = [self.path(name, kind) for name in names for kind in self.KINDS]
        present = [path for path in wanted if os.path.lexists(path)]
        if os.path.lexists(table) and not _holds(table, as_json(content)):
            present.append(table)
        if present and not self.overwrite:
            more = f" and {len(present) - 1} more" if len(present) > 1 else ""
            raise UserError(
                f"{printable(present[0])}{more} is there already; give another --output, or "
                "--overwrite"
            )
        save_json(content, table)

    def hold(self, name: str) -> bool:
        """Whether the files of an image are there."""
        return all(self.path(name, kind).is_file() for kind in self.KINDS[:3])

    def path(self, name: str, kind: str) -> Path:
        """Where the result `kind` (one of KINDS) of an image goes."""
        return self.folder / f"{name}_{kind}"

    def write(self, name: str, result: Result, alpha: float = 0.55) -> None:
        """Write the results of one image.

        Args:
            name: base name of the files.
            result: what the model predicted.
            alpha: weight of the colours in the overlay.

        Raises:
            UserError: the folder cannot be written.
        """
        self.write_frame(name, result, alpha)
        save_image(np.asarray(result.legend()), self.path(name, "legend.png"))
        if result.category_scores is not None:
            save_json(category_table(result), self.path(name, "categories.json"))

    def write_frame(self, name: str, result: Result, alpha: float = 0.55) -> None:
        """Write the same without legend and categories."""
        save_image(np.asarray(result.overlay(alpha=alpha)), self.path(name, "overlay.png"))
        is_semantic = result.task == "semantic"
        ids = result.labels if is_semantic else result.segment_ids
        save_image(ids.astype(np.uint16), self.path(name, "labels.png"))
        if not is_semantic:
            save_json(segment_table(result), self.path(name, "segments.json"))


def _holds(path: Path, text: str) -> bool:
    """Whether a file has this content; a folder, or what cannot be read, has not."""
    try:
        return path.read_bytes() == text.encode()
    except OSError:
        return False


def segment_table(result: Result) -> list[dict[str, Any]]:
    """Return what the ids in a label map stand for; of objects the whole masks: they overlap."""
    table = []
    for index, segment in enumerate(result.segments):
        mask = result.mask(index)
        entry = {
            "id": segment.number,
            "category_id": segment.class_id,
            "name": result.class_names[segment.class_id],
            "isthing": segment.is_object,
            "area": int(mask.sum()),
        }
        if segment.score is not None:
            entry["score"] = round(segment.score, 4)
        if result.object_masks is not None:
            entry["segmentation"] = encode_mask(mask)
        table.append(entry)
    return table


def category_table(result: Result) -> list[dict[str, Any]]:
    """Return RankSeg's probability of each class to be in the image, best first."""
    ids = {name: number for number, name in enumerate(result.vocabulary.names)}
    ranked = result.top_categories(len(ids))
    return [{"id": ids[name], "name": name, "score": round(score, 4)} for name, score in ranked]
