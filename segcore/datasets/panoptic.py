"""Panoptic data sets: a folder of images, COCO's panoptic JSON, and the folder of its PNGs."""

import functools
from collections.abc import Mapping
from pathlib import Path

from segcore.annotations.panoptic_png import PanopticFile
from segcore.datasets.instance import category_ids, describe_image, our_category
from segcore.datasets.registering import check_paths, register, vocabulary_reference
from segcore.vocabulary import Vocabulary

LABEL_DIVISOR = 1000  # Detectron2's convention; unused here


def register_panoptic_dataset(
    name: str,
    image_dir: str | Path,
    panoptic_json: str | Path,
    panoptic_dir: str | Path,
    vocabulary: Vocabulary | str | Path,
    *,
    semantic_dir: str | Path | None = None,
    instance_json: str | Path | None = None,
    evaluator_type: str = "coco_panoptic_seg",
    **metadata: object,
) -> None:
    """Register images with segments under a name; they are read on first use.

    A name that is already registered, by Detectron2 for instance, is accepted if its classes are
    the same; its reader and its metadata are kept, and missing metadata is added.

    Args:
        name: the name for ``DATASETS.TRAIN`` and ``DATASETS.TEST``.
        image_dir: the folder of the images that the JSON file names.
        panoptic_json, panoptic_dir: segments in COCO's format.
        vocabulary: the classes, things and stuff, whose ``dataset_ids`` are the category ids of the
            JSON file; anything that :meth:`Vocabulary.load` takes.
        semantic_dir: label maps with the names of the PNG files, for semantic scores.
        instance_json: objects in COCO's format, for scores of instances.
        evaluator_type: the evaluator that :func:`segcore.evaluation.build_evaluator` builds.
        metadata: further entries for ``MetadataCatalog``.

    Raises:
        UserError: the classes lack ids or things, or the name is registered with other classes.
    """
    vocabulary = Vocabulary.load(vocabulary)
    ids = category_ids(vocabulary)
    things, stuff = (
        {theirs: ours for theirs, ours in ids.items() if vocabulary.isthing[ours] is kind}
        for kind in (True, False)
    )
    # Both lists are indexed by class ids, so both have all classes, as in Detectron2.
    fields = {
        "thing_classes": list(vocabulary.names),
        "thing_colors": list(vocabulary.colors),
        "thing_dataset_id_to_contiguous_id": things,
        "stuff_classes": list(vocabulary.names),
        "stuff_colors": list(vocabulary.colors),
        "stuff_dataset_id_to_contiguous_id": stuff,
        "ignore_label": vocabulary.ignore_label,
        "label_divisor": LABEL_DIVISOR,
        "evaluator_type": evaluator_type,
        "image_root": str(image_dir),
        "panoptic_root": str(panoptic_dir),
        "panoptic_json": str(panoptic_json),
        "vocabulary": vocabulary_reference(vocabulary),
    } | metadata
    for key, path in (("sem_seg_root", semantic_dir), ("json_file", instance_json)):
        if path is not None:
            fields[key] = str(path)
    read = functools.partial(
        read_panoptic_records,
        name,
        Path(image_dir),
        Path(panoptic_json),
        Path(panoptic_dir),
        things,
        stuff,
        None if semantic_dir is None else Path(semantic_dir),
    )
    register(name, read, vocabulary, fields)


def read_panoptic_records(
    name: str,
    image_dir: Path,
    panoptic_json: Path,
    panoptic_dir: Path,
    things: Mapping[int, int],
    stuff: Mapping[int, int],
    semantic_dir: Path | None = None,
) -> list[dict]:
    """Return Detectron2 dataset dicts with ``pan_seg_file_name`` and ``segments_info``, in the
    order of the file's images, and with ``sem_seg_file_name`` if ``semantic_dir`` is given.

    Args:
        name: of the data set, for messages.
        image_dir: the folder of the images.
        panoptic_json, panoptic_dir: segments in COCO's format.
        things, stuff: category ids of the file -> the model's.
        semantic_dir: label maps with the names of the PNG files.

    Raises:
        UserError: a path is missing, the file is wrong, or a category is neither among ``things``
            nor among ``stuff``.
    """
    folders = [image_dir, panoptic_dir] + ([] if semantic_dir is None else [semantic_dir])
    check_paths(name, *folders, panoptic_json)
    file, ids = PanopticFile(panoptic_json, panoptic_dir, image_dir), {**things, **stuff}
    records = []
    for image in file.images:
        entry, record = file.entry(image.id), describe_image(image)
        record["pan_seg_file_name"] = str(panoptic_dir / entry.file_name)
        if semantic_dir is not None:
            record["sem_seg_file_name"] = str(semantic_dir / entry.file_name)
        record["segments_info"] = [
            {
                "id": segment.id,
                "category_id": our_category(name, panoptic_json, segment.category_id, ids),
                "isthing": segment.category_id in things,
                "iscrowd": int(segment.is_crowd),
            }
            for segment in entry.segments
        ]
        records.append(record)
    return records
