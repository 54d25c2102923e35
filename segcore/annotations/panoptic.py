"""Read the JSON file of COCO's panoptic format, which lists the segments of PNG files."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from segcore.annotations import fields
from segcore.annotations.instances import AnnotatedImage, read_images
from segcore.annotations.json_file import read_annotations
from segcore.images import MAX_PIXELS
from segcore.runtime.files import join_inside

MOST_SEGMENTS = 2**24 - 1  # ids that three bytes hold


@dataclass(frozen=True, slots=True)
class SegmentEntry:
    """A segment of an image.

    Attributes:
        id: in the PNG, 1 to ``MOST_SEGMENTS``.
        category_id: the file's.
        is_crowd: whether it stands for an uncounted number of objects.
        area: number of pixels as listed; None if the file lists none.
    """

    id: int
    category_id: int
    is_crowd: bool
    area: float | None


@dataclass(frozen=True, slots=True)
class PanopticEntry:
    """The segments of an image, as the file lists them.

    Attributes:
        image_id: the file's.
        file_name: of the PNG, inside the folder of PNG files.
        segments: with unique ids.
    """

    image_id: int | str
    file_name: str
    segments: tuple[SegmentEntry, ...]


def read_panoptic_json(
    json_file: str | Path, folder: str | Path, image_dir: str | Path | None = None
) -> tuple[dict[int, tuple[str, bool]], list[AnnotatedImage], list[PanopticEntry]]:
    """Read categories (id -> name, and whether it is a thing), images, and segments by image.

    Args:
        json_file: has ``annotations`` and ``categories``; ``images`` is optional, and files for
            evaluation may lack it.
        folder: of the PNG files.
        image_dir: folder that ``file_name`` of images is relative to; None skips file names.

    Raises:
        UserError: the file cannot be read, or something in it is missing or wrong.
    """
    content = read_annotations(json_file)
    categories = {
        id: (entry["name"], fields.flag(entry, "isthing", f"{json_file}: categories[{number}]"))
        for number, (id, entry) in enumerate(fields.categories(content, json_file).items())
    }
    images = read_images(content, json_file, image_dir) if "images" in content else {}
    found: dict[str, PanopticEntry] = {}
    for number, entry in enumerate(fields.entries(content, "annotations", str(json_file))):
        where = f"{json_file}: annotations[{number}]"
        read = _read_entry(entry, folder, categories, where)
        # PNG files and images are matched by their ids as text: some files mix 5 and "5".
        if str(read.image_id) in found:
            wanted = "of an image that no other entry has"
            raise fields.wrong(where, "image_id", read.image_id, wanted)
        found[str(read.image_id)] = read
    return categories, list(images.values()), list(found.values())


def _read_entry(
    entry: Mapping, folder: str | Path, categories: Mapping[int, object], where: str
) -> PanopticEntry:
    image_id = fields.identifier(entry, "image_id", where)
    name = fields.value_of(entry, "file_name", where)
    join_inside(folder, name, f"{where}: 'file_name'")
    return PanopticEntry(image_id, name, read_segments_info(entry, where, categories))


def read_segments_info(
    entry: Mapping, where: str, categories: Mapping[int, object] | None = None
) -> tuple[SegmentEntry, ...]:
    """Read the ``segments_info`` of an image.

    Args:
        entry: of a file's ``annotations``, or a dataset dict.
        where: the file and the entry, which begin an error message.
        categories: the allowed category ids are its keys; None allows all.

    Raises:
        UserError: something is missing or wrong, or two segments have the same id.
    """
    segments: dict[int, SegmentEntry] = {}
    for number, listed in enumerate(fields.entries(entry, "segments_info", where)):
        here = f"{where}.segments_info[{number}]"
        id = fields.integer(listed, "id", here, least=1, most=MOST_SEGMENTS)
        if id in segments:
            raise fields.wrong(here, "id", id, "one that no other segment of the image has")
        segments[id] = SegmentEntry(
            id,
            fields.integer(listed, "category_id", here)
            if categories is None
            else fields.category(listed, "category_id", here, categories),
            fields.flag(listed, "iscrowd", here, default=0),
            fields.number(listed, "area", here, least=0, most=MAX_PIXELS, default=None),
        )
        fields.box(listed, "bbox", here, default=None)
    return tuple(segments.values())
