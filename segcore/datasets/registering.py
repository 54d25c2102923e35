"""Register names in Detectron2's catalogs, which has registered some of them itself."""

import difflib
import functools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog

from segcore.errors import UserError
from segcore.vocabulary import Vocabulary, clean, registered_names


def register(
    name: str, read: Callable[[], list[dict]], vocabulary: Vocabulary, fields: dict[str, object]
) -> None:
    """Register a data set, or add missing metadata if it is registered already.

    Args:
        name: the data set's; it may be registered already.
        read: returns its dataset dicts.
        vocabulary: its classes, in the order of ``stuff_classes`` or ``thing_classes``.
        fields: its metadata.

    Raises:
        UserError: the name is registered with other classes or another ignore label.
    """
    known = MetadataCatalog.get(name)
    if name not in DatasetCatalog.list():
        DatasetCatalog.register(name, read)
    else:
        _accept(name, vocabulary, fields)
    for key, value in fields.items():
        if not hasattr(known, key):
            setattr(known, key, value)


def _accept(name: str, vocabulary: Vocabulary, fields: dict[str, object]) -> None:
    """Keep the reader of a registered name with the same classes; its errors become UserErrors."""
    known = MetadataCatalog.get(name)
    if "stuff_classes" in fields:
        check_agreement(name, vocabulary, known.get("stuff_classes", ()), fields["stuff_classes"])
        _check_ignore_label(name, fields["ignore_label"])
    else:
        check_agreement(name, vocabulary, known.get("thing_classes", ()), fields["thing_classes"])
    theirs = DatasetCatalog[name]
    if getattr(theirs, "func", None) is not _read_with_user_errors:
        DatasetCatalog[name] = functools.partial(_read_with_user_errors, name, theirs)


def _read_with_user_errors(name: str, read: Callable[[], list[dict]]) -> list[dict]:
    try:
        return read()
    except UserError:
        raise
    except (OSError, AssertionError, KeyError, ValueError) as error:
        raise UserError(
            f"dataset {name!r} cannot be read ({type(error).__name__}: {error}): prepare it as "
            "datasets/README.md says, or set DETECTRON2_DATASETS to the folder that holds the data "
            "sets"
        ) from error


def check_registered(names: Iterable[str]) -> None:
    """Raise UserError, which suggests the nearest name, unless all data sets are registered."""
    known = DatasetCatalog.list()
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
            hint = f"; the nearest registered one is {near[0]!r}" if near else ""
            raise UserError(f"there is no dataset named {name!r}{hint}")


def first_training_metadata(cfg: CfgNode) -> Metadata:
    """Return the metadata of the first data set of ``DATASETS.TRAIN``.

    Raises:
        UserError: there is none, or it is unknown.
    """
    if not cfg.DATASETS.TRAIN:
        raise UserError("DATASETS.TRAIN is empty: name the data set to train on")
    check_registered(cfg.DATASETS.TRAIN[:1])
    return MetadataCatalog.get(cfg.DATASETS.TRAIN[0])


def check_paths(name: str, *paths: Path) -> None:
    """Raise UserError, which names the path, unless all folders and .json files exist."""
    for path in paths:
        try:
            found = path.is_file() if path.suffix == ".json" else path.is_dir()
        except OSError:  # the name is too long
            found = False
        if not found:
            kind = "file" if path.suffix == ".json" else "folder"
            raise UserError(
                f"dataset {name!r} has no {kind} {path}: prepare it as datasets/README.md says, "
                "or set DETECTRON2_DATASETS to the folder that holds the data sets"
            )


def vocabulary_reference(vocabulary: Vocabulary) -> str | Vocabulary:
    """Return what :meth:`Vocabulary.load` takes for it: the name of a registered one, or itself."""
    known = vocabulary.name in registered_names()
    return (
        vocabulary.name
        if known and vocabulary == Vocabulary.registered(vocabulary.name)
        else vocabulary
    )


def check_agreement(
    name: str, vocabulary: Vocabulary, theirs: Sequence[str], ours: Sequence[str]
) -> None:
    """Raise UserError unless the registered data set of this name has our classes.

    Some benchmarks have two published lists of names, so classes agree if they have one name in
    common.
    """
    more = zip(vocabulary.names, vocabulary.prompts, vocabulary.synonyms, strict=True)
    more = {class_name: (prompt, *synonyms) for class_name, prompt, synonyms in more}

    def all_names(class_name: str) -> set[str]:
        return set(map(clean, (class_name, *class_name.split(", "), *more.get(class_name, ()))))

    if len(theirs) != len(ours) or any(
        all_names(their).isdisjoint(all_names(our)) for their, our in zip(theirs, ours, strict=True)
    ):
        raise UserError(
            f"dataset {name!r} is registered already with other classes: choose another name"
        )


def _check_ignore_label(name: str, ignore_label: int) -> None:
    theirs = MetadataCatalog.get(name).get("ignore_label", ignore_label)
    if theirs != ignore_label:
        raise UserError(
            f"dataset {name!r} is registered already with the ignore label {theirs} instead of "
            f"{ignore_label}: choose another name"
        )
