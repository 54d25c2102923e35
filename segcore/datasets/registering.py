"""Names in Detectron2's catalogs, some of which Detectron2 itself has taken before us."""

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
    """Make a data set known, or fill up what is known of it.

    Args:
        name: the data set's; it may be registered already.
        read: makes its dataset dicts.
        vocabulary: its classes, in the order of ``stuff_classes`` or ``thing_classes``.
        fields: its metadata.

    Raises:
        UserError: the name stands for other classes or another ignore label already.
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
    """A name that is taken by the same classes keeps its reader, whose errors become sentences."""
    known = MetadataCatalog.get(name)
    if "stuff_classes" in fields:
        check_agreement(name, vocabulary, known.get("stuff_classes", ()), fields["stuff_classes"])
        _check_ignore_label(name, fields["ignore_label"])
    else:
        check_agreement(name, vocabulary, known.get("thing_classes", ()), fields["thing_classes"])
    theirs = DatasetCatalog[name]
    if getattr(theirs, "func", None) is not _read_as_they_do:
        DatasetCatalog[name] = functools.partial(_read_as_they_do, name, theirs)


def _read_as_they_do(name: str, read: Callable[[], list[dict]]) -> list[dict]:
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
    """For entry points: are all these data sets known?

    Raises:
        UserError: one is not; the sentence tells the nearest name.
    """
    known = DatasetCatalog.list()
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
            hint = f"; the nearest registered one is {near[0]!r}" if near else ""
            raise UserError(f"there is no dataset named {name!r}{hint}")


def first_training_metadata(cfg: CfgNode) -> Metadata:
    """The metadata of the first data set of ``DATASETS.TRAIN``.

    Raises:
        UserError: there is none, or it is unknown.
    """
    if not cfg.DATASETS.TRAIN:
        raise UserError("DATASETS.TRAIN is empty: name the data set to train on")
    check_registered(cfg.DATASETS.TRAIN[:1])
    return MetadataCatalog.get(cfg.DATASETS.TRAIN[0])


def check_places(name: str, *places: Path) -> None:
    """Are the folders and files of a data set there?

    Raises:
        UserError: one is not; the sentence names it.
    """
    for place in places:
        try:
            found = place.is_file() if place.suffix == ".json" else place.is_dir()
        except OSError:  # a name that is longer than names can be
            found = False
        if not found:
            kind = "file" if place.suffix == ".json" else "folder"
            raise UserError(
                f"dataset {name!r} has no {kind} {place}: prepare it as datasets/README.md says, "
                "or set DETECTRON2_DATASETS to the folder that holds the data sets"
            )


def vocabulary_reference(vocabulary: Vocabulary) -> str | Vocabulary:
    """What :meth:`Vocabulary.load` finds this vocabulary by: its name if it is a registered one."""
    known = vocabulary.name in registered_names()
    return (
        vocabulary.name
        if known and vocabulary == Vocabulary.registered(vocabulary.name)
        else vocabulary
    )


def check_agreement(
    name: str, vocabulary: Vocabulary, theirs: Sequence[str], ours: Sequence[str]
) -> None:
    """Does the registered data set of this name have our classes?

    Two lists of names go round for some benchmarks, so a class agrees in any of its words.
    """
    more = zip(vocabulary.names, vocabulary.prompts, vocabulary.synonyms, strict=True)
    more = {class_name: (prompt, *synonyms) for class_name, prompt, synonyms in more}

    def words(class_name: str) -> set[str]:
        return set(map(clean, (class_name, *class_name.split(", "), *more.get(class_name, ()))))

    if len(theirs) != len(ours) or any(
        words(their).isdisjoint(words(our)) for their, our in zip(theirs, ours, strict=True)
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
