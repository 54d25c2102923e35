"""Instance data sets of videos: folders of frames and YouTube-VIS's JSON of tracks."""

import functools
from collections.abc import Mapping
from pathlib import Path

from segcore.annotations import read_annotations
from segcore.datasets.instance import our_category, thing_fields
from segcore.datasets.registering import check_places, register, vocabulary_reference
from segcore.errors import UserError
from segcore.vocabulary import Vocabulary

# What a dataset dict tells of an object in a frame -> the track's list of it, an entry a frame.
LISTS = {"segmentation": "segmentations", "bbox": "bboxes", "area": "areas"}


def register_track_dataset(
    name: str,
    image_dir: str | Path,
    track_json: str | Path,
    vocabulary: Vocabulary | str | Path,
    *,
    category_offset: int = 0,
    evaluator_type: str = "ytvis",
    **metadata: object,
) -> None:
    """Make videos with annotated objects known under a name; nothing is read yet.

    The classes of a model are the things of the vocabulary, counted from 0.

    Args:
        name: the name for ``DATASETS.TRAIN`` and ``DATASETS.TEST``.
        image_dir: the folder that the frames' names in the JSON file are relative to.
        track_json: videos, and where they are public the tracks of their objects, in YouTube-VIS's
            format.
        vocabulary: the classes; anything that :meth:`Vocabulary.load` takes.
        category_offset: by how much the category ids of the file exceed the ``dataset_ids`` of the
            vocabulary.
        evaluator_type: what :func:`segcore.evaluation.build_evaluator` builds.
        metadata: further entries for ``MetadataCatalog``.

    Raises:
        UserError: the classes do not say what they are, or the name stands for others already.
    """
    vocabulary = Vocabulary.load(vocabulary)
    things = thing_fields(vocabulary, category_offset)
    ids = things["thing_dataset_id_to_contiguous_id"]
    fields = (
        things
        | {
            "evaluator_type": evaluator_type,
            "image_root": str(image_dir),
            "json_file": str(track_json),
            "vocabulary": vocabulary_reference(vocabulary),
        }
        | metadata
    )
    read = functools.partial(read_track_records, name, Path(image_dir), Path(track_json), ids)
    register(name, read, vocabulary, fields)


def read_track_records(
    name: str, image_dir: Path, track_json: Path, ids: Mapping[int, int]
) -> list[dict]:
    """Dataset dicts of videos, in the order of the file.

    Args:
        name: of the data set, for messages.
        image_dir: the folder of the frames.
        track_json: videos and tracks.
        ids: category ids of the file -> the model's.

    Returns:
        dicts with ``video_id``, ``file_names``, ``height``, ``width``, ``length`` and, unless the
        file has no tracks at all, ``frame_annotations``: for every frame the objects that are seen
        there, each with ``id`` (of its track), ``category_id``, ``iscrowd``, ``segmentation`` and,
        where the file has them, ``bbox`` and ``area``. (Detectron2 takes ``annotations`` for one
        list, that of a picture.)

    Raises:
        UserError: a place is missing, or the file is wrong: the sentence names the video or track.
    """
    check_places(name, image_dir, track_json)
    videos, tracks = read_track_file(track_json)
    objects = {video["id"]: [[] for _ in video["file_names"]] for video in videos}
    for track in tracks:
        category = our_category(name, track_json, track["category_id"], ids)
        for frame, seen in enumerate(_by_frame(track)):
            if seen is not None:
                objects[track["video_id"]][frame].append(seen | {"category_id": category})
    records = [_describe(video, image_dir) for video in videos]
    if not tracks:
        return records
    return [record | {"frame_annotations": objects[record["video_id"]]} for record in records]


def read_track_file(path: Path) -> tuple[list[dict], list[dict]]:
    """The videos and tracks of a file of YouTube-VIS's format, the latter empty where none are
    public.

    Every video names as many frames as it is long, and every track has an entry for each of them.

    Raises:
        UserError: the file cannot be read, or something in it is not so.
    """
    content = read_annotations(path)
    try:
        videos, tracks = content["videos"], content.get("annotations") or []
        lengths = {video["id"]: _checked_length(video, path) for video in videos}
        if len(lengths) < len(videos):
            raise UserError(f"{path} gives several videos one id: ids need to be unique")
        for track in tracks:
            _check_track(track, lengths, path)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"{path} is no file of YouTube-VIS's format: {error!r}") from error
    if not videos:
        raise UserError(f"{path} has no videos")
    return videos, tracks


def _checked_length(video: dict, path: Path) -> int:
    names, where = video["file_names"], f"{path}: video {video['id']}"
    if not names:
        raise UserError(f"{where} has no frames: it needs at least one")
    if len(names) != video.get("length", len(names)):
        raise UserError(f"{where} names {len(names)} frames, but its length is {video['length']}")
    if min(int(video["height"]), int(video["width"])) < 1:
        raise UserError(f"{where} has no pixels: 'height' and 'width' need to be positive")
    for name in names:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise UserError(f"{where} names the frame {name}, which is outside of its folder")
    return len(names)


def _check_track(track: dict, lengths: Mapping[int | str, int], path: Path) -> None:
    where = f"{path}: track {track['id']}"
    if track["video_id"] not in lengths:
        raise UserError(f"{where} is of the video {track['video_id']!r}, which the file has not")
    length = lengths[track["video_id"]]
    hash(track["category_id"])  # a TypeError where it is no id
    for key in LISTS.values():
        if (key in track or key == "segmentations") and len(track[key]) != length:
            raise UserError(
                f"{where} has {len(track[key])} {key}, but its video {track['video_id']} has "
                f"{length} frames: the two must agree"
            )


def _by_frame(track: dict) -> list[dict | None]:
    """What a dataset dict tells of an object in every frame, None where it is not seen."""
    alike = {"id": track["id"], "iscrowd": track.get("iscrowd", 0)}
    kept = {key: track[theirs] for key, theirs in LISTS.items() if theirs in track}
    return [
        alike | {key: values[frame] for key, values in kept.items()} if outline else None
        for frame, outline in enumerate(track["segmentations"])
    ]


def _describe(video: dict, image_dir: Path) -> dict:
    return {
        "video_id": video["id"],
        "file_names": [str(image_dir / name) for name in video["file_names"]],
        "height": int(video["height"]),
        "width": int(video["width"]),
        "length": len(video["file_names"]),
    }
