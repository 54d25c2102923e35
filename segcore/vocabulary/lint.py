"""Lint the prompts, synonyms and colours of a valid vocabulary; every warning is one line.

Errors, such as two classes of one name, are raised when a vocabulary is loaded: see
:mod:`segcore.vocabulary.checks`.
"""

from collections import defaultdict
from collections.abc import Iterator

from segcore.vocabulary.vocabulary import Vocabulary, clean, short


def lint_vocabulary(vocabulary: Vocabulary) -> Iterator[str]:
    """Yield warnings about prompts, synonyms and colours."""
    yield from _shared_synonyms(vocabulary)
    yield from _repeated_synonyms(vocabulary)
    yield from _colours(vocabulary)


def class_synonyms(vocabulary: Vocabulary, class_id: int) -> tuple[str, ...]:
    """Return the prompt and the synonyms of a class."""
    return vocabulary.prompts[class_id], *vocabulary.synonyms[class_id]


def _shared_synonyms(vocabulary: Vocabulary) -> Iterator[str]:
    classes: dict[str, dict[int, None]] = defaultdict(dict)  # dicts, for their order
    for class_id in range(len(vocabulary)):
        for synonym in class_synonyms(vocabulary, class_id):
            classes[clean(synonym)][class_id] = None
    for synonym, ids in classes.items():
        if len(ids) > 1:
            names = ", ".join(short(vocabulary.names[class_id]) for class_id in ids)
            yield f"{short(synonym)} belongs to several classes: {names}"


def _repeated_synonyms(vocabulary: Vocabulary) -> Iterator[str]:
    for class_id, name in enumerate(vocabulary.names):
        synonyms = class_synonyms(vocabulary, class_id)
        if len(set(map(clean, synonyms))) < len(synonyms):
            yield f"class {short(name)} has a synonym twice: {', '.join(map(short, synonyms))}"
        for synonym in synonyms:
            if synonym != " ".join(synonym.split()):
                yield f"class {short(name)} has spaces at an end or side by side: {short(synonym)}"


def _colours(vocabulary: Vocabulary) -> Iterator[str]:
    """Lint all colours but those of the background, which are never drawn."""
    drawn = len(vocabulary) if vocabulary.background is None else vocabulary.background.first
    colored = (vocabulary.colored or ())[:drawn]
    lacking = [name for name, has in zip(vocabulary.names, colored, strict=False) if not has]
    if any(colored) and lacking:
        names = ", ".join(map(short, lacking[:5])) + (", ..." if len(lacking) > 5 else "")
        yield f"{len(lacking)} of {drawn} classes have no colour: {names}"
    classes: dict[tuple, list[str]] = defaultdict(list)
    for name, color in list(zip(vocabulary.names, vocabulary.colors, strict=True))[:drawn]:
        classes[color].append(name)
    for color, names in classes.items():
        if len(names) > 1:
            shared = ", ".join(map(short, names))
            yield f"the colour {list(color)} is that of several classes: {shared}"
