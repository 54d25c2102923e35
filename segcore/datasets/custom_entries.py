"""The entries of ``datasets`` in a file that describes custom datasets, one kind a key."""

from pathlib import Path

from segcore.datasets.categories import read_categories, vocabulary_of, with_category_ids
from segcore.errors import UserError, holds_control, printable
from segcore.runtime.files import user_path
from segcore.vocabulary import Vocabulary

SEMANTIC = "labels"
# The key that makes the kind -> the keys that it needs besides, and those that it may have. Labels
# beside objects or tracks are not read.
KINDS = {
    "panoptic_json": (("images", "labels"), ("semantic_labels", "instance_json")),
    "instance_json": (("images",), ("labels",)),
    "track_json": (("images",), ("labels",)),
    "video_list": (("images",), ("labels", "piece_frames")),
    SEMANTIC: (("images",), ("image_suffix", "label_suffix")),
}
WITH_CATEGORIES = ("panoptic_json", "instance_json", "track_json")
NO_PATHS = ("image_suffix", "label_suffix", "piece_frames")


def checked_entry(path: Path, name: str, entry: object) -> dict:
    """Return a data set's entry with its paths joined to the folder of the file.

    Args:
        path: the file that describes the data sets.
        name: of the data set.
        entry: the value in the file.

    Raises:
        UserError: a key is missing or unknown, or a value is wrong.
    """
    where = f"{path}: data set {name!r}"
    if not isinstance(entry, dict):
        raise UserError(f"{where} needs two folders, 'images' and 'labels'")
    kind = kind_of(entry)
    needed, optional = KINDS[kind]
    if not {kind, *needed} <= entry.keys():
        if kind == SEMANTIC:
            raise UserError(
                f"{where} needs two folders, 'images' and 'labels', or 'images' and one of "
                f"{', '.join(key for key in KINDS if key != SEMANTIC)}"
            )
        raise UserError(f"{where} with {kind!r} needs {' and '.join(map(repr, needed))} too")
    for key, value in entry.items():
        if key not in (kind, *needed, *optional):
            raise UserError(
                f"{where} has the entry {printable(key)!r}, but takes "
                f"{', '.join((*needed, kind, *optional))}"
            )
        if key == "piece_frames":
            if type(value) is not int or value < 1:
                raise UserError(f"{path}: {key!r} of data set {name!r} needs to be a number from 1")
        elif not isinstance(value, str) or not value or holds_control(value):
            raise UserError(
                f"{path}: {key!r} of data set {name!r} needs to be a text without control "
                "characters"
            )
    return {
        key: value if key in NO_PATHS else _joined(path, name, key, value)
        for key, value in entry.items()
    }


def kind_of(entry: dict) -> str:
    """Return the key of an entry that makes its kind, see :data:`KINDS`."""
    return next((kind for kind in KINDS if kind in entry), SEMANTIC)


def vocabulary_for(path: Path, name: str, entry: dict, vocabulary: Vocabulary | None) -> Vocabulary:
    """Return the classes of a data set: the vocabulary, with category ids of its file if it has no
    ids, or without a vocabulary the categories of its file.

    Args:
        path: the description.
        name: of the data set, and of the vocabulary of its categories.
        entry: as :func:`checked_entry` returns it.
        vocabulary: that of the description; None if it lists no classes.

    Raises:
        UserError: there are no classes, or the categories do not fit the vocabulary.
    """
    kind = kind_of(entry)
    if kind not in WITH_CATEGORIES:
        if vocabulary is None:
            raise UserError(f"{path}: data set {name!r} has no classes: list them in 'classes'")
        return vocabulary
    if vocabulary is None:
        return vocabulary_of(read_categories(entry[kind]), name, entry[kind])
    if vocabulary.dataset_ids is None:
        return with_category_ids(vocabulary, read_categories(entry[kind]), entry[kind])
    return vocabulary


def _joined(path: Path, name: str, key: str, value: str) -> str:
    try:
        return str(path.parent / user_path(value))
    except UserError as error:
        raise UserError(f"{path}: {key!r} of data set {name!r}: {error}") from error
