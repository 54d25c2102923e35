"""Read panoptic segmentation in COCO's format: a PNG of segment ids, and the JSON file of them.

A pixel's id is R + 256 G + 65536 B; 0 is a pixel without a segment (void).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from segcore.annotations import PanopticEntry, SegmentEntry, read_panoptic_json
from segcore.annotations.panoptic import read_segments_info
from segcore.errors import UserError
from segcore.images import read_image


def read_segment_ids(path: str | Path) -> np.ndarray:
    """Return the segment ids of a panoptic PNG, (H, W) int64.

    Raises:
        UserError: as :func:`segcore.images.reading.read_image`.
    """
    return decode_ids(read_image(path))


def decode_ids(pixels: np.ndarray) -> np.ndarray:
    """Return the ids that three bytes a pixel encode: (H, W, 3) uint8 -> (H, W) int64."""
    return pixels.astype(np.int64) @ (1, 256, 65536)


def encode_ids(ids: np.ndarray) -> np.ndarray:
    """Encode ids from 0 to 2**24 - 1 as three bytes a pixel: (H, W) -> (H, W, 3) uint8."""
    return np.stack([ids >> shift & 255 for shift in (0, 8, 16)], axis=-1).astype(np.uint8)


@dataclass(frozen=True)
class Segments:
    """The segments of one image.

    Attributes:
        ids: (H, W) int64, 0 where there is none.
        categories: segment id -> category id, of every segment.
        areas: segment id -> number of pixels that replaces the count in the map: for ``coverable``
            segments, the area before objects were painted over them.
        crowds: ids of segments that stand for an uncounted number of objects.
        coverable: ids of segments that may have no pixel, because objects are painted over them.
        source, listing: names of the map and of the list in messages, such as their files.
    """

    ids: np.ndarray
    categories: dict[int, int]
    areas: dict[int, int] = field(default_factory=dict)
    crowds: frozenset[int] = frozenset()
    coverable: frozenset[int] = frozenset()
    source: str = "the panoptic map"
    listing: str = "its segments_info"

    def index(self) -> np.ndarray:
        """Return for every pixel its segment's index in ``categories``, from 1, and 0 for void.

        Returns:
            (H, W) int64.

        Raises:
            UserError: a pixel has an id that ``categories`` lacks, or a segment has no pixel and
                is not ``coverable``, or it has more than ``areas`` says, or than there are.
        """
        listed = np.array([0, *self.categories], dtype=np.int64)
        order = np.argsort(listed, kind="stable")
        position = np.searchsorted(listed, self.ids, sorter=order)
        index = order[np.minimum(position, len(listed) - 1)]
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
        for i, pixels in zip(listed.tolist(), found.tolist(), strict=True):
            if not pixels <= self.areas.get(i, pixels) <= self.ids.size:
                raise UserError(
                    f"{self.source} has {pixels} pixels of the segment id {i}, but {self.listing} "
                    f"lists the area {self.areas[i]}, which has to be that or, below objects, more"
                )
        return index


def read_segments(
    path: str | Path,
    listed: Sequence[SegmentEntry],
    things: Collection[int],
    listing: str,
    *,
    listed_areas: bool = False,
) -> Segments:
    """Read the segments of a PNG, as a list in COCO's format describes them.

    Stuff may be listed and yet have no pixel: ADE20K's stuff is listed before instances, which
    come from other annotators, are painted over it.

    Args:
        path: the PNG.
        listed: its segments.
        things: category ids of countable objects.
        listing: name of the list in messages, such as its file.
        listed_areas: use the listed areas of stuff instead of those of the PNG.

    Raises:
        UserError: the PNG cannot be read.
    """
    stuff = [each for each in listed if each.category_id not in things]
    return Segments(
        read_segment_ids(path),
        {each.id: each.category_id for each in listed},
        {each.id: int(each.area) for each in stuff if listed_areas and each.area is not None},
        frozenset(each.id for each in listed if each.is_crowd),
        frozenset(each.id for each in stuff),
        str(path),
        listing,
    )


def segments_of_record(record: dict) -> Segments:
    """Read the segments of a Detectron2 dataset dict, whose categories are the model's class ids.

    Raises:
        UserError: the dict has none, one of them is wrong, or its PNG cannot be read.
    """
    path, listed = record.get("pan_seg_file_name"), record.get("segments_info")
    if path is None or listed is None:
        raise UserError(f"{record['file_name']} has no segments: this needs a panoptic data set")
    things = {each["category_id"] for each in listed if each["isthing"]}
    return read_segments(
        path, read_segments_info(record, path), things, "the JSON file of its data set"
    )


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
        images: the images that the file lists; files for evaluation may list none.
        entries: image id as text -> the segments that the file lists for the image.
    """

    def __init__(
        self,
        json_file: str | Path,
        folder: str | Path,
        image_dir: str | Path | None = None,
        *,
        listed_areas: bool = False,
    ) -> None:
        """
        Args:
            json_file: the list of segments.
            folder: of the PNG files.
            image_dir: folder that names of images are relative to; None skips the names.
            listed_areas: use the listed areas of stuff instead of those of the PNG files.

        Raises:
            UserError: as :func:`segcore.annotations.read_panoptic_json`.
        """
        self.path, self.folder, self._listed_areas = Path(json_file), Path(folder), listed_areas
        categories, self.images, entries = read_panoptic_json(json_file, folder, image_dir)
        self.categories = {id: Category(id, *each) for id, each in categories.items()}
        self.entries: dict[str, PanopticEntry] = {str(each.image_id): each for each in entries}

    def __len__(self) -> int:
        return len(self.entries)

    def __contains__(self, image_id: int | str) -> bool:
        return str(image_id) in self.entries

    def entry(self, image_id: int | str) -> PanopticEntry:
        """Return the segments that the file lists for an image.

        Raises:
            UserError: it has no such image.
        """
        if image_id not in self:
            raise UserError(f"{self.path} has no segments of the image {image_id!r}")
        return self.entries[str(image_id)]

    def segments(self, image_id: int | str) -> Segments:
        """Read the segments of an image.

        Raises:
            UserError: the file has no such image, or the PNG cannot be read.
        """
        entry = self.entry(image_id)
        things = {id for id, category in self.categories.items() if category.isthing}
        path = self.folder / entry.file_name
        return read_segments(
            path, entry.segments, things, str(self.path), listed_areas=self._listed_areas
        )
