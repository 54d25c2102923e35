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

Folders and files are relative to the file. ``DATASETS.CUSTOM`` (or ``DATASETS.OWN``, its earlier
name) lists such files. A data set may also consist of objects, segments or videos, see
:mod:`segcore.datasets.custom_entries`::

    "pets_instance": {"images": "images", "instance_json": "instances.json"}
    "pets_panoptic": {"images": "images", "panoptic_json": "panoptic.json", "labels": "panoptic"}
    "films_instance": {"images": "frames", "track_json": "tracks.json"}
    "films": {"images": "<video>/frames", "labels": "<video>/labels", "video_list": "train.txt"}

Without ``classes``, files of objects and segments give them: their categories. Label maps that hold
no integers have the colours of the classes, if every class has one.

A table of captions (.tsv) needs no description: it is a data set with the name of the file, and its
images are relative to the folder of the file. Nor do tar shards of pairs: the data set
``web-{00000..00012}.tar`` has the name ``web``, what stands before the first brace. If that is
nothing, as in the names of img2dataset, ``web/{00000..00012}.tar``, it is that of the folder.
"""

from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import META_ARCH_REGISTRY

from segcore.datasets.captions import register_caption_dataset
from segcore.datasets.custom_entries import checked_entry, vocabulary_for
from segcore.datasets.pairs import expand_pattern, register_pair_dataset
from segcore.datasets.table import register_table
from segcore.errors import UserError, printable
from segcore.runtime.files import check_file_name, user_path
from segcore.vocabulary import Vocabulary
from segcore.vocabulary.files import read_json


def custom_files(cfg: CfgNode) -> tuple[str, ...]:
    """Return the files of ``DATASETS.CUSTOM`` and ``DATASETS.OWN``, each once."""
    return tuple(dict.fromkeys((*cfg.DATASETS.CUSTOM, *cfg.DATASETS.OWN)))


def register_custom_datasets(cfg: CfgNode) -> None:
    """Register the data sets of :func:`custom_files`; repeating it changes nothing.

    Raises:
        UserError: a file is wrong, or the config's vocabulary for training is of other classes.
    """
    for path in custom_files(cfg):
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
    table = read_json(path)
    datasets = table.get("datasets") if isinstance(table, dict) else None
    if not isinstance(datasets, dict) or not datasets:
        raise UserError(
            f"{path} names no data set: add 'datasets' with a name and its folders, such as "
            '{"my_train": {"images": "train/images", "labels": "train/labels"}}'
        )
    listed = Vocabulary.from_file(path) if "classes" in table else None
    if listed is not None and listed.ignore_label is None:
        raise UserError(f"{path}: 'ignore_label' needs to be a whole number, such as 255")
    for name, files in datasets.items():
        # The folder of results has the name of the data set.
        check_file_name(name, f"{path}: the name of a data set")
        datasets[name] = checked_entry(path, name, files)
        _check_name(path, name, datasets[name])
    for name, entry in datasets.items():
        vocabulary = vocabulary_for(path, name, entry, listed)
        listed = listed or vocabulary  # all data sets of a description have the same classes
        register_table({"datasets": {name: entry}}, vocabulary, Path(), colored=has_colors(listed))
        MetadataCatalog.get(name).custom_entry = entry
    return tuple(datasets)


def has_colors(vocabulary: Vocabulary) -> bool:
    """Return whether every class of label maps is given a colour of its own."""
    classes = len(vocabulary.label_names) - (vocabulary.background is not None)
    distinct = len(set(vocabulary.label_colors)) == len(vocabulary.label_colors)
    return distinct and all((vocabulary.colored or (False,))[:classes])


def _register_captions(path: Path) -> tuple[str, ...]:
    check_file_name(path.stem, f"{path}: the name of a data set")
    if not path.is_file():
        raise UserError(f"DATASETS.CUSTOM names {path}, but there is no such file")
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
        raise UserError(f"DATASETS.CUSTOM: {error}") from error
    return (name,)


def _check_name(path: Path, name: str, entry: dict) -> None:
    """Raise UserError if the name is registered with other files: the first reader is kept."""
    if name not in DatasetCatalog.list():
        return
    known = MetadataCatalog.get(name)
    folders = {"images": known.get("image_root"), "labels": known.get("sem_seg_root")}
    if entry not in (known.get("custom_entry"), folders):
        raise UserError(f"{path}: there is another data set named {name!r}: choose another name")


def _check_train_vocabulary(cfg: CfgNode, name: str, path: str | Path) -> None:
    """Raise UserError if the config, derived from a published one, keeps that one's vocabulary.

    Models of a closed list of classes do not read it.
    """
    name_of_model = cfg.MODEL.META_ARCHITECTURE
    if name_of_model in META_ARCH_REGISTRY and not hasattr(
        META_ARCH_REGISTRY.get(name_of_model), "set_vocabulary"
    ):
        return
    source = cfg.MODEL.SEM_SEG_HEAD.get("TRAIN_CLASS_JSON")
    classes = len(MetadataCatalog.get(name).stuff_classes)
    if source is not None and len(Vocabulary.load(source)) != classes:
        raise UserError(
            f"MODEL.SEM_SEG_HEAD.TRAIN_CLASS_JSON {source} has {len(Vocabulary.load(source))} "
            f"classes, but data set {name!r} has {classes}: set it to {path}"
        )
