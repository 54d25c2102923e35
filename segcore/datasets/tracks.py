"""Instance data sets of videos: folders of frames and YouTube-VIS's JSON of tracks."""

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path

from detectron2.structures import BoxMode

from segcore.annotations import AnnotatedTrack, AnnotatedVideo, read_track_file
from segcore.datasets.instance import our_category, thing_fields
from segcore.datasets.registering import check_paths, register, vocabulary_reference
from segcore.outlines import outline_box
from segcore.vocabulary import Vocabulary


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
    """Register videos with annotated objects under a name; they are read on first use.

    The classes of a model are the things of the vocabulary, counted from 0.

    Args:
        name: the name for ``DATASETS.TRAIN`` and ``DATASETS.TEST``.
        image_dir: the folder that the frames' names in the JSON file are relative to.
        track_json: videos, and if they are public the tracks of their objects, in YouTube-VIS's
            format.
        vocabulary: the classes; anything that :meth:`Vocabulary.load` takes.
        category_offset: added to ``dataset_ids`` of the vocabulary, gives the category ids of the
            file.
        evaluator_type: the evaluator that :func:`segcore.evaluation.build_evaluator` builds.
        metadata: further entries for ``MetadataCatalog``.

    Raises:
        UserError: the classes lack ids or things, or the name is registered with other classes.
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
    """Return dataset dicts of videos, in the order of the file.

    Args:
        name: of the data set, for messages.
        image_dir: the folder of the frames.
        track_json: videos and tracks.
        ids: category ids of the file -> the model's.

    Returns:
        dicts with ``video_id``, ``file_names``, ``height``, ``width``, ``length`` and, unless the
        file has no tracks at all, ``frame_annotations``: for every frame its visible objects, each
        with ``id`` (the index of its track in the file), ``category_id``, ``iscrowd``,
        ``segmentation``, ``bbox``, ``bbox_mode`` and, if the file has it, ``area``. (Detectron2
        expects ``annotations`` to be the list of an image.)

    Raises:
        UserError: a path is missing, or the file is wrong: the message names the video or track.
    """
    check_paths(name, image_dir, track_json)
    videos, tracks = read_track_file(track_json, image_dir)
    if tracks is None:
        return [_describe(video) for video in videos]
    objects = {video.id: [[] for _ in video.paths] for video in videos}
    for track in tracks:
        category = our_category(name, track_json, track.category_id, ids)
        for frame, seen in enumerate(_by_frame(track)):
            if seen is not None:
                objects[track.video_id][frame].append(seen | {"category_id": category})
    return [_describe(video) | {"frame_annotations": objects[video.id]} for video in videos]


def _by_frame(track: AnnotatedTrack) -> Iterator[dict | None]:
    """Yield an object's annotation in every frame, None in frames without the object."""
    for frame, outline in enumerate(track.outlines):
        if outline is None:
            yield None
            continue
        seen = {"id": track.index, "iscrowd": int(track.is_crowd), "segmentation": outline}
        box = track.boxes and track.boxes[frame]
        seen["bbox"] = list(box or outline_box(outline))
        seen["bbox_mode"] = BoxMode.XYWH_ABS
        if track.areas and track.areas[frame] is not None:
            seen["area"] = track.areas[frame]
        yield seen


def _describe(video: AnnotatedVideo) -> dict:
    return {
        "video_id": video.id,
        "file_names": [str(path) for path in video.paths],
        "height": video.height,
        "width": video.width,
        "length": len(video.paths),
    }
