"""Whether a model's vocabulary names the classes of a data set in their order.

Labels are numbers: with the same classes in another order every pixel counts as another class, and
nothing but the names shows it.
"""

import logging
import re
from collections.abc import Iterable, Sequence

from detectron2.data import MetadataCatalog

from segcore.errors import UserError, printable
from segcore.vocabulary import Vocabulary
from segcore.vocabulary.checks import clean, short

logger = logging.getLogger(__name__)

MISPLACED = 2  # classes that stand at each other's index: one alone may be a class of a close name
SHOWN = 3


def check_class_names(vocabulary: Vocabulary | Sequence[str], dataset_name: str, key: str) -> None:
    """Compare a vocabulary with the classes of a semantic data set, by number and by name.

    Other words for the same classes are a warning: people look for better prompts. A data set
    without a list of semantic classes is not looked at.

    Args:
        vocabulary: whatever ``Vocabulary.load`` takes, index = class id.
        dataset_name: registered.
        key: of the config, where the vocabulary comes from.

    Raises:
        UserError: there are more or fewer classes, or at least two names stand at the index of
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
    theirs = _calls(Vocabulary.load(theirs) if theirs else names)[:count]
    compare_names(_calls(vocabulary)[:count], theirs, f"{key}, for data set {dataset_name}")


def compare_names(ours: Sequence[set[str]], theirs: Sequence[set[str]], where: str) -> None:
    """Refuse names in another order, warn of names that differ.

    Args:
        ours, theirs: what each class is called, of equal length.
        where: the names stand, to begin the message with.
    """
    places: dict[str, set[int]] = {}
    for number, calls in enumerate(theirs):
        for call in calls:
            places.setdefault(call, set()).add(number)
    misplaced, differing = [], []
    for number, (calls, other) in enumerate(zip(ours, theirs, strict=True)):
        if calls & other:
            continue
        known = {place for call in calls for place in places.get(call, ())}
        found = (number, calls, other)
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
    """What classes are called that have only a name, whose first part may stand for it."""
    return [{_plain(name), _plain(name.split(",")[0])} for name in names]


def _calls(classes: Vocabulary | Sequence[str]) -> list[set[str]]:
    if not isinstance(classes, Vocabulary):
        return names_of(classes)
    return [
        calls | {_plain(prompt)}
        for calls, prompt in zip(names_of(classes.names), classes.prompts, strict=True)
    ]


def _plain(name: str) -> str:
    """Without hyphens, underscores, capitals and the like."""
    return re.sub(r"[\W_]+", " ", clean(name)).strip()


def _shown(found: Sequence[tuple[int, set[str], set[str]]]) -> str:
    parts = [
        f"class {number} is {short(min(calls))}, there {short(min(other))}"
        for number, calls, other in found[:SHOWN]
    ]
    return "; ".join(parts) + ("; ..." if len(found) > SHOWN else "")
