"""Instance data sets: a folder of images and COCO's instance JSON."""

import functools
from collections.abc import Mapping
from pathlib import Path

from detectron2.structures import BoxMode

from segcore.annotations import AnnotatedImage, read_instance_file
from segcore.datasets.registering import check_paths, register
from segcore.errors import UserError
from segcore.vocabulary import Vocabulary


def register_instance_dataset(
    name: str,
    image_dir: str | Path,
    instance_json: str | Path,
    vocabulary: Vocabulary | str | Path,
    *,
    evaluator_type: str = "coco",
    **metadata: object,
) -> None:
    """Register images with annotated objects under a name; they are read on first use.

    The classes of a model are the things of the vocabulary, counted from 0. A name that is already
    registered is accepted if its classes are the same.

    Args:
        name: the name for ``DATASETS.TRAIN`` and ``DATASETS.TEST``.
        image_dir: the folder of the images that the JSON file names.
        instance_json: objects in COCO's format.
        vocabulary: classes whose ``dataset_ids`` are the category ids of the JSON file; anything
            that :meth:`Vocabulary.load` takes.
        evaluator_type: the evaluator that :func:`segcore.evaluation.build_evaluator` builds.
        metadata: further entries for ``MetadataCatalog``.

    Raises:
        UserError: the classes lack ids or things, or the name is registered with other classes.
    """
    vocabulary = Vocabulary.load(vocabulary)
    things = thing_fields(vocabulary)
    ids = things["thing_dataset_id_to_contiguous_id"]
    fields = (
        things
        | {
            "evaluator_type": evaluator_type,
            "image_root": str(image_dir),
            "json_file": str(instance_json),
        }
        | metadata
    )
    read = functools.partial(read_instance_records, name, Path(image_dir), Path(instance_json), ids)
    register(name, read, vocabulary, fields)


def thing_fields(vocabulary: Vocabulary, category_offset: int = 0) -> dict[str, object]:
    """Return metadata of the classes with instances, numbered from 0 in the vocabulary's order.

    Args:
        vocabulary: the classes.
        category_offset: added to ``dataset_ids`` of the vocabulary, gives the category ids of the
            data set's file.

    Raises:
        UserError: the classes lack ids or things.
    """
    things = {
        theirs + category_offset: index
        for theirs, index in category_ids(vocabulary).items()
        if vocabulary.isthing[index]
    }
    return {
        "thing_classes": [vocabulary.names[index] for index in things.values()],
        "thing_colors": [vocabulary.colors[index] for index in things.values()],
        "thing_dataset_id_to_contiguous_id": {theirs: ours for ours, theirs in enumerate(things)},
    }


def read_instance_records(
    name: str, image_dir: Path, instance_json: Path, ids: Mapping[int, int]
) -> list[dict]:
    """Return Detectron2 dataset dicts with ``annotations``, in the order of the file's images.

    Args:
        name: of the data set, for messages.
        image_dir: the folder of the images.
        instance_json: objects in COCO's format.
        ids: category ids of the file -> the model's.

    Raises:
        UserError: a path is missing, the file is wrong, or a category is not among ``ids``.
    """
    check_paths(name, image_dir, instance_json)
    _, images = read_instance_file(instance_json, image_dir)
    return [
        describe_image(image)
        | {
            "annotations": [
                {
                    "iscrowd": int(each.is_crowd),
                    "bbox": list(each.box),
                    "bbox_mode": BoxMode.XYWH_ABS,
                    "segmentation": each.outline,
                    "category_id": our_category(name, instance_json, each.category_id, ids),
                }
                for each in image.objects
            ]
        }
        for image in images
    ]


def describe_image(image: AnnotatedImage) -> dict:
    """Return the entries of an image that every dataset dict has."""
    return {
        "file_name": str(image.path),
        "image_id": image.id,
        "height": image.height,
        "width": image.width,
    }


def category_ids(vocabulary: Vocabulary) -> dict[int, int]:
    """Return category ids in a data set's JSON files -> class ids, in the order of the classes.

    Stuff that the files do not have, such as a background, has no id.

    Raises:
        UserError: the vocabulary lacks ``dataset_id`` or ``isthing``.
    """
    things, ids = vocabulary.isthing, vocabulary.dataset_ids or (None,)
    known = {ours: theirs for ours, theirs in enumerate(ids) if type(theirs) is int}
    given = sum(theirs is not None for theirs in ids)
    if (
        things is None
        or len(known) < given
        or not known
        or any(thing and ours not in known for ours, thing in enumerate(things))
    ):
        raise UserError(
            f"vocabulary {vocabulary.name} needs 'isthing' and 'dataset_id', the category id in "
            "the JSON file, for every class that the file has"
        )
    if len(set(known.values())) < len(known):
        raise UserError(f"vocabulary {vocabulary.name} gives one dataset_id to several classes")
    return {theirs: ours for ours, theirs in known.items()}


def our_category(name: str, json_file: Path, category: int, ids: Mapping[int, int]) -> int:
    """Return the class id of a category of a JSON file; raise UserError if there is none."""
    if category not in ids:
        raise UserError(
            f"{json_file} has the category id {category!r}, which is none of the {len(ids)} "
            f"classes of dataset {name!r}"
        )
    return ids[category]
