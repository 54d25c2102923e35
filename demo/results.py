"""The files written for an image: overlay, label map, legend, and a list of its segments."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from files import as_json, save_image, save_json, unwritable
from predictor import Prediction
from pycocotools import mask as rle

from segcore.drawing.segments import (
    Regions,
    class_regions,
    draw_regions,
    regions_legend,
    segment_regions,
)
from segcore.errors import UserError
from segcore.vocabulary import Vocabulary


class ResultFolder:
    """Writes overlay, label map and legend of each image, and the vocabulary once.

    The label map is a 16-bit PNG. Its values are class ids, which index ``vocabulary.json``, or
    segment ids, which a fourth file lists.

    Args:
        folder: made if absent.
        vocabulary: the classes of the predictions.
        overwrite: whether files of an earlier run may be replaced.
    """

    # Every image has the first three.
    KINDS = ("overlay.png", "labels.png", "legend.png", "segments.json", "categories.json")

    def __init__(self, folder: Path, vocabulary: Vocabulary, overwrite: bool = False):
        self.folder, self.vocabulary, self.overwrite = Path(folder), vocabulary, overwrite

    def prepare(self, names: Sequence[str]) -> None:
        """Make the folder, check that no file will be replaced, write the vocabulary.

        Raises:
            UserError: a result exists already, or the folder cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(unwritable(self.folder, error)) from error
        table, content = self.folder / "vocabulary.json", self.vocabulary.to_table()
        wanted = [self.path(name, kind) for name in names for kind in self.KINDS]
        present = [path for path in wanted if os.path.lexists(path)]
        if os.path.lexists(table) and not _holds(table, as_json(content)):
            present.append(table)
        if present and not self.overwrite:
            more = f" and {len(present) - 1} more" if len(present) > 1 else ""
            raise UserError(
                f"{present[0]}{more} is there already; give another --output, or --overwrite"
            )
        save_json(content, table)

    def hold(self, name: str) -> bool:
        """Whether the files of an image exist."""
        return all(self.path(name, kind).is_file() for kind in self.KINDS[:3])

    def path(self, name: str, kind: str) -> Path:
        """Return the path of the result `kind` (one of KINDS) of an image."""
        return self.folder / f"{name}_{kind}"

    def write(self, name: str, image: np.ndarray, prediction: Prediction, alpha: float) -> None:
        """Write the results of one image.

        Args:
            name: base name of the files.
            image: (H, W, 3) uint8, RGB.
            prediction: of the model.
            alpha: weight of the colours in the overlay.

        Raises:
            UserError: the folder cannot be written.
        """
        self.write_frame(name, image, prediction, alpha)
        legend = regions_legend(regions_of(prediction, self.vocabulary))
        save_image(legend, self.path(name, "legend.png"))
        if prediction.category_scores is not None:
            table = category_table(prediction.category_scores, self.vocabulary)
            save_json(table, self.path(name, "categories.json"))

    def write_frame(
        self,
        name: str,
        image: np.ndarray,
        prediction: Prediction,
        alpha: float,
        *,
        tell_apart: bool = True,
    ) -> None:
        """Write the same without a legend; `tell_apart`: see :func:`segment_regions`."""
        regions = regions_of(prediction, self.vocabulary, tell_apart=tell_apart)
        save_image(draw_regions(image, regions, alpha=alpha), self.path(name, "overlay.png"))
        save_image(prediction.labels.astype(np.uint16), self.path(name, "labels.png"))
        if prediction.segments is not None:
            path = self.path(name, "segments.json")
            save_json(segment_table(prediction, self.vocabulary), path)


def _holds(path: Path, text: str) -> bool:
    """Whether a file has this content; False for a folder or an unreadable file."""
    try:
        return path.read_bytes() == text.encode()
    except OSError:
        return False


def regions_of(
    prediction: Prediction, vocabulary: Vocabulary, *, tell_apart: bool = True
) -> Regions:
    """Return the regions to draw; `tell_apart`: see :func:`segment_regions`."""
    if prediction.segments is None:
        return class_regions(prediction.labels, vocabulary)
    return segment_regions(
        prediction.labels, prediction.segments, vocabulary, tell_apart=tell_apart
    )


def segment_table(prediction: Prediction, vocabulary: Vocabulary) -> list[dict]:
    """List the segments of a label map; objects with their whole masks, since these overlap."""
    pixels = dict(zip(*np.unique(prediction.labels, return_counts=True), strict=True))
    masks = [None] * len(prediction.segments) if prediction.masks is None else prediction.masks
    table = []
    for segment, mask in zip(prediction.segments, masks, strict=True):
        entry = {
            "id": segment.number,
            "category_id": segment.class_id,
            "name": vocabulary.names[segment.class_id],
            "isthing": segment.is_object,
            "area": int(pixels.get(segment.number, 0)),
        }
        if segment.score is not None:
            entry["score"] = round(segment.score, 4)
        if mask is not None:
            encoded = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
            entry["area"] = int(mask.sum())
            entry["segmentation"] = {"size": encoded["size"], "counts": encoded["counts"].decode()}
        table.append(entry)
    return table


def category_table(scores: Sequence[float], vocabulary: Vocabulary) -> list[dict]:
    """List the category scores of RankSeg, the highest first."""
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    return [{"id": i, "name": vocabulary.names[i], "score": round(scores[i], 4)} for i in order]
