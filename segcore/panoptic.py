"""Panoptic segmentation in COCO's format: a PNG of segment ids, and a JSON file that lists them.

A pixel's id is R + 256 G + 65536 B; 0 is a pixel without a segment (void).
"""

from collections.abc import Collection, Iterator, Sequence
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
    return decode_ids(read_image(path))


def decode_ids(pixels: np.ndarray) -> np.ndarray:
    """Three bytes a pixel -> ids: (H, W, 3) uint8 -> (H, W) int64."""
    return pixels.astype(np.int64) @ (1, 256, 65536)


def encode_ids(ids: np.ndarray) -> np.ndarray:
    """Ids from 0 to 2**24 - 1 -> three bytes a pixel: (H, W) -> (H, W, 3) uint8."""
    return np.stack([ids >> shift & 255 for shift in (0, 8, 16)], axis=-1).astype(np.uint8)


@dataclass(frozen=True)
class Segments:
    """The segments of one picture.

    Attributes:
        ids: (H, W) int64, 0 where there is none.
        categories: segment id -> category id, of every segment.
        areas: segment id -> pixels, where somebody has counted them already.
        crowds: ids of segments that stand for an uncounted number of objects.
        coverable: ids of segments that may have no pixel, because objects are painted over them.
        source, listing: what to call the map and the list in messages, such as their files.
    """

    ids: np.ndarray
    categories: dict[int, int]
    areas: dict[int, int] = field(default_factory=dict)
    crowds: frozenset[int] = frozenset()
    coverable: frozenset[int] = frozenset()
    source: str = "the panoptic map"
    listing: str = "its segments_info"

    def index(self) -> np.ndarray:
        """For every pixel its segment's position in ``categories``, from 1, and 0 for void.

        Returns:
            (H, W) int64.

        Raises:
            UserError: a pixel has an id that ``categories`` lacks, or a segment has no pixel and
                is not ``coverable``.
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
        found = np.bincount(index.ravel(), minlength=len(listed))
        lost = [i for i, pixels in zip(listed[1:], found[1:], strict=True) if not pixels]
        lost = [i for i in lost if i not in self.coverable]
        if lost:
            raise UserError(
                f"{self.source} has no pixel of the segment id {lost[0]}, which {self.listing} "
                "lists: the two must agree"
            )
        return index


def read_segments(
    path: str | Path, segments_info: Sequence[dict], things: Collection[int], listing: str
) -> Segments:
    """The segments of a PNG, as a list in COCO's format describes them.

    Stuff may be listed and yet have no pixel: ADE20K's stuff is listed before instances, which
    come from other annotators, are painted over it.

    Args:
        path: the PNG.
        segments_info: dicts with ``id`` and ``category_id``, and where known ``area`` and
            ``iscrowd``.
        things: category ids of countable objects.
        listing: what to call the list in messages, such as its file.

    Raises:
        UserError: the PNG cannot be read.
    """
    return Segments(
        read_segment_ids(path),
        {each["id"]: each["category_id"] for each in segments_info},
        {each["id"]: each["area"] for each in segments_info if "area" in each},
        frozenset(each["id"] for each in segments_info if each.get("iscrowd")),
        frozenset(each["id"] for each in segments_info if each["category_id"] not in things),
        str(path),
        listing,
    )


def segments_of_record(record: dict) -> Segments:
    """The segments of a Detectron2 dataset dict, with the model's class ids as categories.

    Raises:
        UserError: the dict has none, or its PNG cannot be read.
    """
    path, listed = record.get("pan_seg_file_name"), record.get("segments_info")
    if path is None or listed is None:
        raise UserError(f"{record['file_name']} has no segments: this needs a panoptic data set")
    things = {each["category_id"] for each in listed if each["isthing"]}
    return read_segments(path, listed, things, "the JSON file of its data set")


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
        images: what the file says about pictures; in a file for evaluation it may say nothing.
        entries: image id as text -> what the file says about the picture's segments.
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
            self.images: list[dict] = list(content.get("images", ()))
            self.entries = {str(entry["image_id"]): entry for entry in content["annotations"]}
            for image_id, segment in self._segments():
                self._check(image_id, segment)
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{json_file} is no panoptic file of COCO's format: {error!r}"
            ) from error

    def __len__(self) -> int:
        return len(self.entries)

    def __contains__(self, image_id: int | str) -> bool:
        return str(image_id) in self.entries

    def segments(self, image_id: int | str) -> Segments:
        """The segments of a picture.

        Raises:
            UserError: the file has no such picture, or the PNG cannot be read.
        """
        if image_id not in self:
            raise UserError(f"{self.path} has no picture with the id {image_id!r}")
        entry = self.entries[str(image_id)]
        things = {id for id, category in self.categories.items() if category.isthing}
        path = self.folder / entry["file_name"]
        return read_segments(path, entry["segments_info"], things, str(self.path))

    def _segments(self) -> Iterator[tuple[str, dict]]:
        for image_id, entry in self.entries.items():
            for segment in entry["segments_info"]:
                yield image_id, segment

    def _check(self, image_id: str, segment: dict) -> None:
        if segment["category_id"] not in self.categories:
            raise UserError(
                f"{self.path}: segment {segment['id']} of picture {image_id} has the category id "
                f"{segment['category_id']}, which is not in the file's table of categories"
            )
