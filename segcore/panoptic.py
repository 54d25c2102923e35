"""Panoptic segmentation in COCO's format: a PNG of segment ids, and a JSON file that lists them.

A pixel's id is R + 256 G + 65536 B; 0 is a pixel without a segment (void).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from segcore.annotations import read_annotations
from segcore.errors import UserError
from segcore.images import read_image


def read_segment_ids(path: str | Path) -> np.ndarray:
    """The segment ids of a panoptic PNG, (H, W) int64.

    Raises:
        UserError: as :func:`segcore.images.read_image`.
    """
    return read_image(path).astype(np.int64) @ (1, 256, 65536)


@dataclass(frozen=True)
class Segments:
    """The segments of one picture.

    Attributes:
        ids: (H, W) int64, 0 where there is none.
        categories: segment id -> category id, of every segment.
        areas: segment id -> pixels, where somebody has counted them already.
        crowds: ids of segments that stand for an uncounted number of objects.
        source, listing: what to call the map and the list in messages, such as their files.
    """

    ids: np.ndarray
    categories: dict[int, int]
    areas: dict[int, int] = field(default_factory=dict)
    crowds: frozenset[int] = frozenset()
    source: str = "the panoptic map"
    listing: str = "its segments_info"

    def index(self) -> np.ndarray:
        """For every pixel its segment's position in ``categories``, from 1, and 0 for void.

        Returns:
            (H, W) int64.

        Raises:
            UserError: a pixel has an id that ``categories`` lacks, or a segment has no pixel.
        """
        listed = np.array([0, *self.categories], dtype=np.int64)
        order = np.argsort(listed, kind="stable")
        place = np.searchsorted(listed, self.ids, sorter=order)
        index = order[np.minimum(place, len(listed) - 1)]
        unlisted = listed[index] != self.ids
        if unlisted.any():
            raise UserError(
                f"{self.source} holds the segment id {self.ids[unlisted][0]}, which {self.listing} "
                "does not list: the two must agree"
            )
        found = np.bincount(index.ravel(), minlength=len(listed))[1:]
        if not found.all():
            raise UserError(
                f"{self.source} has no pixel of the segment id {listed[1:][found == 0][0]}, which "
                f"{self.listing} lists: the two must agree"
            )
        return index


@dataclass(frozen=True)
class Category:
    """One entry of the ``categories`` of a COCO file."""

    id: int
    name: str
    isthing: bool


class PanopticFile:
    """The ground truth of a data set: COCO's panoptic JSON and the folder of its PNG files.

    Attributes:
        categories: category id -> :class:`Category`.
    """

    def __init__(self, json_file: str | Path, folder: str | Path) -> None:
        """
        Raises:
            UserError: the JSON file cannot be read, is no panoptic one, or a segment has a category
                id outside of its table.
        """
        self.path, self.folder = Path(json_file), Path(folder)
        content = read_annotations(json_file)
        try:
            self.categories = {
                entry["id"]: Category(entry["id"], entry["name"], bool(entry["isthing"]))
                for entry in content["categories"]
            }
            self._annotations = {str(entry["image_id"]): entry for entry in content["annotations"]}
            for image_id, segment in self._segments():
                self._check(image_id, segment)
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{json_file} is no panoptic file of COCO's format: {error!r}"
            ) from error

    def __len__(self) -> int:
        return len(self._annotations)

    def __contains__(self, image_id: int | str) -> bool:
        return str(image_id) in self._annotations

    def segments(self, image_id: int | str) -> Segments:
        """The segments of a picture.

        Raises:
            UserError: the file has no such picture, or the PNG cannot be read.
        """
        if image_id not in self:
            raise UserError(f"{self.path} has no picture with the id {image_id!r}")
        entry = self._annotations[str(image_id)]
        path, listed = self.folder / entry["file_name"], entry["segments_info"]
        return Segments(
            read_segment_ids(path),
            {segment["id"]: segment["category_id"] for segment in listed},
            {segment["id"]: segment["area"] for segment in listed if "area" in segment},
            frozenset(segment["id"] for segment in listed if segment.get("iscrowd")),
            str(path),
            str(self.path),
        )

    def _segments(self) -> Iterator[tuple[str, dict]]:
        for image_id, entry in self._annotations.items():
            for segment in entry["segments_info"]:
                yield image_id, segment

    def _check(self, image_id: str, segment: dict) -> None:
        if segment["category_id"] not in self.categories:
            raise UserError(
                f"{self.path}: segment {segment['id']} of picture {image_id} has the category id "
                f"{segment['category_id']}, which is not in the file's table of categories"
            )
