"""Semantic data sets: a folder of images, a folder of label maps, a vocabulary."""

import functools
import logging
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from detectron2.data import Metadata, MetadataCatalog

from segcore.datasets.registering import (
    check_paths,
    check_registered,
    register,
    vocabulary_reference,
)
from segcore.errors import UserError
from segcore.images import pack_colors
from segcore.images.folders import list_images
from segcore.vocabulary import Vocabulary

logger = logging.getLogger(__name__)


def register_semantic_dataset(
    name: str,
    image_dir: str | Path,
    label_dir: str | Path,
    vocabulary: Vocabulary | str | Path | list[str],
    *,
    image_suffix: str | None = ".jpg",
    label_suffix: str | None = ".png",
    ignore_label: int | None = None,
    first_label: int = 0,
    label_colors: bool = False,
    evaluator_type: str = "sem_seg",
    **metadata: object,
) -> None:
    """Register a folder of images with label maps under a name; they are read on first use.

    An image and a label map are a pair if their paths below the two folders are equal without the
    suffixes. A name that is already registered, by Detectron2 for instance, is accepted if its
    classes are the same; its reader and its metadata are kept, and missing metadata is added.

    Args:
        name: the name for ``DATASETS.TRAIN`` and ``DATASETS.TEST``.
        image_dir, label_dir: the two folders, searched with all their subfolders.
        vocabulary: the classes, in the order of the label values; anything that
            :meth:`Vocabulary.load` takes.
        image_suffix, label_suffix: ends of the files' names, dot included; None takes all images.
        ignore_label: label value of pixels without a class; None takes the vocabulary's.
        first_label: stored value of class 0; smaller values are pixels without a class.
        label_colors: label maps that hold no integers have the colours of the vocabulary.
        evaluator_type: the evaluator that :func:`segcore.evaluation.build_evaluator` builds.
        metadata: further entries for ``MetadataCatalog``; they override the ones made here.

    Raises:
        UserError: the name is registered with other classes or another ignore label.
    """
    vocabulary = Vocabulary.load(vocabulary)
    fields = {
        "stuff_classes": list(vocabulary.names),
        "stuff_colors": list(vocabulary.colors),
        "ignore_label": vocabulary.ignore_label if ignore_label is None else ignore_label,
        "first_label": first_label,
        "evaluator_type": evaluator_type,
        "image_root": str(image_dir),
        "sem_seg_root": str(label_dir),
        "image_suffix": image_suffix,
        "label_suffix": label_suffix,
        "vocabulary": vocabulary_reference(vocabulary),
    } | metadata
    shared = {"first_label": first_label} if first_label else {}
    if label_colors:
        fields["label_colors"] = shared["label_colors"] = pack_colors(vocabulary.label_colors)
    read = functools.partial(
        read_pairs, name, Path(image_dir), Path(label_dir), image_suffix, label_suffix, shared
    )
    register(name, read, vocabulary, fields)


def read_pairs(
    name: str,
    image_dir: Path,
    label_dir: Path,
    image_suffix: str | None,
    label_suffix: str | None,
    shared: Mapping[str, object] = MappingProxyType({}),
) -> list[dict]:
    """Return Detectron2 dataset dicts with ``file_name`` and ``sem_seg_file_name``, in order of
    name, and with the entries of ``shared``.

    They have no sizes: opening 100,000 headers here would take minutes.

    Raises:
        UserError: a folder is missing, no image has a label map, or one has several.
    """
    images = _single_files(name, image_dir, image_suffix)
    labels = _single_files(name, label_dir, label_suffix)
    stems = sorted(images.keys() & labels.keys())
    if not stems:
        raise UserError(
            f"dataset {name!r}: no image *{image_suffix or ''} in {image_dir} has a label map of "
            f"the same name *{label_suffix or ''} in {label_dir}: prepare it as "
            "datasets/README.md says"
        )
    if len(stems) < len(labels):
        logger.warning(
            "dataset %s: %d of %d label maps have no image in %s and are left out",
            name,
            len(labels) - len(stems),
            len(labels),
            image_dir,
        )
    return [
        {"file_name": images[stem], "sem_seg_file_name": labels[stem], **shared} for stem in stems
    ]


def semantic_metadata(name: str) -> Metadata:
    """Return the metadata of a data set that has ``stuff_classes`` and an ``ignore_label``.

    Raises:
        UserError: it is not registered, or not a semantic one.
    """
    check_registered([name])
    metadata = MetadataCatalog.get(name)
    if not (metadata.get("stuff_classes") and metadata.get("ignore_label") is not None):
        raise UserError(f"dataset {name!r} is no semantic one: it has no list of semantic classes")
    return metadata


def list_files(name: str, folder: Path, suffix: str | None) -> dict[str, list[str]]:
    """Return the files of a data set by the path that an image and its label map share.

    Args:
        name: of the data set, for messages.
        folder: searched with its subfolders; hidden files, which some systems add, are left out.
        suffix: end of the names; None takes every image.

    Returns:
        path below the folder without the suffix -> full paths, in order; more than one only where
        ``suffix`` is None.

    Raises:
        UserError: there is no such folder.
    """
    check_paths(name, folder)
    files: dict[str, list[str]] = {}
    for path in list_images(folder, below=True, suffix=suffix):
        below = path.relative_to(folder).as_posix().removesuffix(suffix or path.suffix)
        files.setdefault(below, []).append(str(path))
    return files


def _single_files(name: str, folder: Path, suffix: str | None) -> dict[str, str]:
    """Return :func:`list_files` with one file a name; raise UserError for several."""
    files = list_files(name, folder, suffix)
    for paths in files.values():
        if len(paths) > 1:
            raise UserError(
                f"dataset {name!r}: {paths[0]} and {paths[1]} differ in their endings only: remove "
                "one of them, or set image_suffix or label_suffix to the right ending"
            )
    return {below: paths[0] for below, paths in files.items()}
