"""Data sets of one's own: a JSON file says what they show and where they lie.

It has the form of the files in ``segcore/vocabularies``, so that it can be given wherever a
vocabulary is asked for::

    {
      "name": "pets",
      "classes": ["grass", "cat, kitten", "dog"],
      "ignore_label": 255,
      "datasets": {
        "pets_train": {"images": "train/images", "labels": "train/labels"},
        "pets_test": {"images": "test/images", "labels": "test/labels"}
      }
    }

Folders are relative to the file. ``DATASETS.OWN`` lists such files.

A table of captions (.tsv) needs no description: it is a data set with the name of the file, and its
images are relative to the folder that it lies in.
"""

from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from segcore.datasets.captions import register_caption_dataset
from segcore.datasets.table import register_table
from segcore.errors import UserError, holds_control, printable
from segcore.runtime.files import check_file_name, user_path
from segcore.vocabulary import Vocabulary
from segcore.vocabulary.files import read_json

FIELDS = ("images", "labels", "image_suffix", "label_suffix")


def register_custom_datasets(cfg: CfgNode) -> None:
    """Register what the files of ``DATASETS.OWN`` describe; again is as good as once.

    Raises:
        UserError: a file is wrong, or the model would be trained with the words of other classes.
    """
    for path in cfg.DATASETS.OWN:
        for name in register_custom_file(path):
            if name in cfg.DATASETS.TRAIN and MetadataCatalog.get(name).get("stuff_classes"):
                _check_words(cfg, name, path)


def register_custom_file(path: str | Path) -> tuple[str, ...]:
    """Register the data sets of one file.

    Returns:
        their names.

    Raises:
        UserError: the file is wrong, or one of the names belongs to another data set.
    """
    path = user_path(path)
    if path.suffix == ".tsv":
        return _register_captions(path)
    vocabulary = Vocabulary.from_file(path)
    table = read_json(path)
    datasets = table.get("datasets") if isinstance(table, dict) else None
    if not isinstance(datasets, dict) or not datasets:
        raise UserError(
            f"{path} names no data set: add 'datasets' with a name and its folders, such as "
            '{"my_train": {"images": "train/images", "labels": "train/labels"}}'
        )
    if vocabulary.ignore_label is None:
        raise UserError(f"{path}: 'ignore_label' needs to be a whole number, such as 255")
    for name, files in datasets.items():
        check_file_name(name, f"{path}: the name of a data set")  # results lie in a folder of it
        _check_files(path, name, files)
        places = {key: _folder(path, name, key, files[key]) for key in ("images", "labels")}
        datasets[name] = files | places
        _check_name(path, name, places["images"], places["labels"])
    # Further entries belong to the published benchmarks: background, evaluators.
    register_table({"datasets": datasets}, vocabulary, Path())
    return tuple(datasets)


def _register_captions(path: Path) -> tuple[str, ...]:
    check_file_name(path.stem, f"{path}: the name of a data set")
    if not path.is_file():
        raise UserError(f"DATASETS.OWN names {path}, but there is no such file")
    try:
        register_caption_dataset(path.stem, path, path.parent)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return (path.stem,)


def _check_files(path: Path, name: str, files: object) -> None:
    if not isinstance(files, dict) or not {"images", "labels"} <= files.keys():
        raise UserError(f"{path}: data set {name!r} needs two folders, 'images' and 'labels'")
    for key, value in files.items():
        if key not in FIELDS:
            raise UserError(
                f"{path}: data set {name!r} has the entry {printable(key)!r}, but takes "
                f"{', '.join(FIELDS)}"
            )
        if not isinstance(value, str) or not value or holds_control(value):
            raise UserError(
                f"{path}: {key!r} of data set {name!r} needs to be a text without control "
                "characters"
            )


def _folder(path: Path, name: str, key: str, folder: str) -> str:
    try:
        return str(path.parent / user_path(folder))
    except UserError as error:
        raise UserError(f"{path}: {key!r} of data set {name!r}: {error}") from error


def _check_name(path: Path, name: str, *folders: str) -> None:
    """A name that is taken keeps its reader, so it has to be taken by these very folders."""
    if name not in DatasetCatalog.list():
        return
    known = MetadataCatalog.get(name)
    theirs = (known.get("image_root"), known.get("sem_seg_root"))
    if theirs != folders:
        raise UserError(f"{path}: there is another data set named {name!r}: choose another name")


def _check_words(cfg: CfgNode, name: str, path: str | Path) -> None:
    """A config that goes on from a published one may still hold the words of its classes."""
    words = cfg.MODEL.SEM_SEG_HEAD.get("TRAIN_CLASS_JSON")
    classes = len(MetadataCatalog.get(name).stuff_classes)
    if words is not None and len(Vocabulary.load(words)) != classes:
        raise UserError(
            f"MODEL.SEM_SEG_HEAD.TRAIN_CLASS_JSON {words} has {len(Vocabulary.load(words))} "
            f"classes, but data set {name!r} has {classes}: set it to {path}"
        )
