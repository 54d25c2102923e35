"""Custom datasets: a JSON file lists their classes and folders.

The file has the format of ``segcore/vocabularies``, so it also works as a vocabulary::

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
images are relative to the folder of the file. Nor do tar shards of pairs: the data set
``web-{00000..00012}.tar`` has the name ``web``, what stands before the first brace. If that is
nothing, as in the names of img2dataset, ``web/{00000..00012}.tar``, it is that of the folder.
"""

from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from segcore.datasets.captions import register_caption_dataset
from segcore.datasets.pairs import expand_pattern, register_pair_dataset
from segcore.datasets.table import register_table
from segcore.errors import UserError, holds_control, printable
from segcore.runtime.files import check_file_name, user_path
from segcore.vocabulary import Vocabulary
from segcore.vocabulary.files import read_json

FIELDS = ("images", "labels", "image_suffix", "label_suffix")


def register_custom_datasets(cfg: CfgNode) -> None:
    """Register the data sets of the files in ``DATASETS.OWN``; repeating it changes nothing.

    Raises:
        UserError: a file is wrong, or the config's vocabulary for training is of other classes.
    """
    for path in cfg.DATASETS.OWN:
        for name in register_custom_file(path):
            if name in cfg.DATASETS.TRAIN and MetadataCatalog.get(name).get("stuff_classes"):
                _check_train_vocabulary(cfg, name, path)


def register_custom_file(path: str | Path) -> tuple[str, ...]:
    """Register the data sets of one file.

    Returns:
        their names.

    Raises:
        UserError: the file is wrong, or another data set has one of the names.
    """
    path = user_path(path)
    if path.suffix == ".tar":
        return _register_pairs(path)
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
        # The folder of results has the name of the data set.
        check_file_name(name, f"{path}: the name of a data set")
        _check_files(path, name, files)
        folders = {key: _folder(path, name, key, files[key]) for key in ("images", "labels")}
        datasets[name] = files | folders
        _check_name(path, name, folders["images"], folders["labels"])
    # Further entries are for the published benchmarks: background, evaluators.
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


def _register_pairs(path: Path) -> tuple[str, ...]:
    name = path.stem.partition("{")[0].rstrip("-_.") or path.resolve().parent.name
    check_file_name(name, f"{printable(path)}: the name of a data set")
    try:
        expand_pattern(str(path))
        register_pair_dataset(name, path)
    except UserError as error:
        raise UserError(f"DATASETS.OWN: {error}") from error
    return (name,)


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
    """Raise UserError if the name is registered with other folders: the first reader is kept."""
    if name not in DatasetCatalog.list():
        return
    known = MetadataCatalog.get(name)
    theirs = (known.get("image_root"), known.get("sem_seg_root"))
    if theirs != folders:
        raise UserError(f"{path}: there is another data set named {name!r}: choose another name")


def _check_train_vocabulary(cfg: CfgNode, name: str, path: str | Path) -> None:
    """Raise UserError if the config, derived from a published one, keeps that one's vocabulary."""
    source = cfg.MODEL.SEM_SEG_HEAD.get("TRAIN_CLASS_JSON")
    classes = len(MetadataCatalog.get(name).stuff_classes)
    if source is not None and len(Vocabulary.load(source)) != classes:
        raise UserError(
            f"MODEL.SEM_SEG_HEAD.TRAIN_CLASS_JSON {source} has {len(Vocabulary.load(source))} "
            f"classes, but data set {name!r} has {classes}: set it to {path}"
        )
