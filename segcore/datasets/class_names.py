"""Check that a model's vocabulary names the classes of a data set in their order.

Labels are numbers: with the same classes in another order every pixel counts as another class, and
only the names reveal it.
"""

import logging
import re
from collections.abc import Iterable, Sequence

from detectron2.data import MetadataCatalog

from segcore.errors import UserError, printable
from segcore.vocabulary import Vocabulary
from segcore.vocabulary.checks import clean, short

logger = logging.getLogger(__name__)

MISPLACED = 2  # classes at another one's index: a single one may be a class of a similar name
SHOWN = 3


def check_class_names(vocabulary: Vocabulary | Sequence[str], dataset_name: str, key: str) -> None:
    """Compare a vocabulary with the classes of a semantic data set, by number and by name.

    Other names for the same classes are a warning: people try better prompts. A data set without a
    list of semantic classes is not checked.

    Args:
        vocabulary: anything that ``Vocabulary.load`` takes, index = class id.
        dataset_name: registered.
        key: config key of the vocabulary.

    Raises:
        UserError: there are more or fewer classes, or at least two names are at the index of
            another class.
    """
    metadata = MetadataCatalog.get(dataset_name)
    names = metadata.get("stuff_classes")
    if not names:
        return
    vocabulary = Vocabulary.load(vocabulary)
    background = metadata.get("background_from")
    enough = len(vocabulary) == len(names) if background is None else len(vocabulary) > background
    if not enough:
        raise UserError(
            f"{key} {short(vocabulary.name)} has {len(vocabulary)} classes, but data set "
            f"{printable(dataset_name)} has {len(names)}: give the vocabulary of the data set"
        )
    theirs = metadata.get("vocabulary")
    count = len(names) if background is None else background
    theirs = _all_names(Vocabulary.load(theirs) if theirs else names)[:count]
    compare_names(_all_names(vocabulary)[:count], theirs, f"{key}, for data set {dataset_name}")


def compare_names(ours: Sequence[set[str]], theirs: Sequence[set[str]], where: str) -> None:
    """Raise UserError for names in another order, and warn of names that differ.

    Args:
        ours, theirs: the names of each class, of equal length.
        where: source of the names, which begins the message.
    """
    indices: dict[str, set[int]] = {}
    for number, names in enumerate(theirs):
        for name in names:
            indices.setdefault(name, set()).add(number)
    misplaced, differing = [], []
    for number, (names, other) in enumerate(zip(ours, theirs, strict=True)):
        if names & other:
            continue
        known = {index for name in names for index in indices.get(name, ())}
        found = (number, names, other)
        (misplaced if len(known) == 1 else differing).append(found)
    if len(misplaced) >= MISPLACED:
        raise UserError(
            f"{where}: the classes are in another order than those of the data set "
            f"({_shown(misplaced)}): labels are numbers, so put them in its order"
        )
    if misplaced or differing:
        logger.warning(
            "%s: %d of %d classes differ in name from those of the data set (%s)",
            where,
            len(misplaced) + len(differing),
            len(theirs),
            _shown(misplaced + differing),
        )


def names_of(names: Iterable[str]) -> list[set[str]]:
    """Return the names of classes without prompts: the whole name, and its part before a comma."""
    return [{_normalized(name), _normalized(name.split(",")[0])} for name in names]


def _all_names(classes: Vocabulary | Sequence[str]) -> list[set[str]]:
    if not isinstance(classes, Vocabulary):
        return names_of(classes)
    return [
        names | {_normalized(prompt)}
        for names, prompt in zip(names_of(classes.names), classes.prompts, strict=True)
    ]


def _normalized(name: str) -> str:
    """Return a name without hyphens, underscores, capitals and the like."""
    return re.sub(r"[\W_]+", " ", clean(name)).strip()


def _shown(found: Sequence[tuple[int, set[str], set[str]]]) -> str:
    parts = [
        f"class {number} is {short(min(names))}, there {short(min(other))}"
        for number, names, other in found[:SHOWN]
    ]
    return "; ".join(parts) + ("; ..." if len(found) > SHOWN else "")
