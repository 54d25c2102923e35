"""Read the objects of videos in YouTube-VIS's format."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from segcore.annotations import fields
from segcore.annotations.json_file import read_annotations
from segcore.errors import UserError
from segcore.outlines import Outline, check_outline, largest_area
from segcore.runtime.files import join_inside

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AnnotatedVideo:
    """A video.

    Attributes:
        id: unique in the file.
        paths: of its frames, at least one.
        height, width: of every frame, in pixels.
    """

    id: int | str
    paths: tuple[Path, ...]
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class AnnotatedTrack:
    """An object of a video of T frames.

    Attributes:
        index: in the file's ``annotations``, from 0; it identifies the object.
        video_id, category_id: the file's.
        is_crowd: whether it stands for an uncounted number of objects.
        outlines: T valid outlines, None in frames that do not show the object.
        boxes: T times x, y, width and height, None for frames without a box; None if the file has
            no boxes at all.
        areas: likewise, in pixels.
    """

    index: int
    video_id: int | str
    category_id: int
    is_crowd: bool
    outlines: tuple[Outline | None, ...]
    boxes: tuple[fields.Box | None, ...] | None
    areas: tuple[float | None, ...] | None


def read_track_file(
    json_file: str | Path, image_dir: str | Path
) -> tuple[list[AnnotatedVideo], list[AnnotatedTrack] | None]:
    """Read the videos of a file and their tracks, which are None if they are not public.

    Args:
        json_file: has ``videos`` and, if they are public, ``annotations``.
        image_dir: folder that ``file_names`` are relative to.

    Raises:
        UserError: the file cannot be read, or something in it is missing or wrong.
    """
    content = read_annotations(json_file)
    videos: dict[int | str, AnnotatedVideo] = {}
    for number, entry in enumerate(fields.entries(content, "videos", str(json_file))):
        where = f"{json_file}: videos[{number}]"
        video = _read_video(entry, image_dir, where)
        if video.id in videos:
            raise fields.wrong(where, "id", video.id, "one that no other video has")
        videos[video.id] = video
    if not videos:
        raise UserError(f"{json_file} has no videos")
    if not content.get("annotations"):
        return list(videos.values()), None
    tracks, unseen = [], 0
    for index, entry in enumerate(fields.entries(content, "annotations", str(json_file))):
        track, lacking = _read_track(entry, index, videos, f"{json_file}: annotations[{index}]")
        tracks.append(track)
        unseen += lacking
    if unseen:
        logger.warning(
            "%s: %d times an object has no outline (a polygon of three corners, or an RLE) in a "
            "frame that lists it: it counts as absent there",
            json_file,
            unseen,
        )
    return list(videos.values()), tracks


def _read_video(entry: Mapping, image_dir: str | Path, where: str) -> AnnotatedVideo:
    names = fields.value_of(entry, "file_names", where)
    if not isinstance(names, list) or not names:
        raise fields.wrong(where, "file_names", names, "a list of at least one frame")
    length = fields.integer(entry, "length", where, default=len(names))
    if length != len(names):
        raise UserError(f"{where}: 'file_names' are {len(names)}, but 'length' is {length}")
    paths = tuple(
        join_inside(image_dir, name, f"{where}: 'file_names'[{frame}]")
        for frame, name in enumerate(names)
    )
    return AnnotatedVideo(fields.identifier(entry, "id", where), paths, *fields.size(entry, where))


def _read_track(
    entry: Mapping, index: int, videos: Mapping[int | str, AnnotatedVideo], where: str
) -> tuple[AnnotatedTrack, int]:
    """Return a track, and the number of frames that list the object without an outline."""
    video_id = fields.identifier(entry, "video_id", where)
    if video_id not in videos:
        raise fields.wrong(where, "video_id", video_id, "the id of one of the file's videos")
    video = videos[video_id]
    size, length = (video.height, video.width), len(video.paths)
    listed = _by_frame(entry, "segmentations", length, where)
    boxes = _boxes(entry, length, where) if "bboxes" in entry else None
    outlines = tuple(
        check_outline(each, size, f"{where}: 'segmentations'[{frame}]")
        for frame, each in enumerate(listed)
    )
    lacking = sum(
        outline is None and (listed[frame] is not None or bool(boxes and boxes[frame]))
        for frame, outline in enumerate(outlines)
    )
    track = AnnotatedTrack(
        index,
        video_id,
        fields.integer(entry, "category_id", where),
        fields.flag(entry, "iscrowd", where, default=0),
        outlines,
        boxes,
        _areas(entry, length, size, where) if "areas" in entry else None,
    )
    return track, lacking


def _by_frame(entry: Mapping, key: str, length: int, where: str) -> list:
    """Return a list that has an entry for each of ``length`` frames."""
    found = fields.value_of(entry, key, where)
    if not isinstance(found, list) or len(found) != length:
        raise fields.wrong(where, key, found, f"a list with an entry for each of {length} frames")
    return found


def _boxes(entry: Mapping, length: int, where: str) -> tuple[fields.Box | None, ...]:
    frames = dict(enumerate(_by_frame(entry, "bboxes", length, where)))
    return tuple(
        None if box is None else fields.box(frames, frame, f"{where}: 'bboxes'")
        for frame, box in frames.items()
    )


def _areas(
    entry: Mapping, length: int, size: tuple[int, int], where: str
) -> tuple[float | None, ...]:
    frames = dict(enumerate(_by_frame(entry, "areas", length, where)))
    most = largest_area(size)
    return tuple(
        None
        if area is None
        else fields.number(frames, frame, f"{where}: 'areas'", least=0, most=most)
        for frame, area in frames.items()
    )
