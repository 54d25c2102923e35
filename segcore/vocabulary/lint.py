"""What is odd about the words and colours of a vocabulary that can be read.

Every finding is one line. What cannot be used at all, such as two classes of one name, is refused
when a vocabulary is loaded: see :mod:`segcore.vocabulary.checks`.
"""

from collections import defaultdict
from collections.abc import Iterator

from segcore.vocabulary.vocabulary import Vocabulary, clean, short


def find_oddities(vocabulary: Vocabulary) -> Iterator[str]:
    """Findings in words and colours."""
    yield from _shared_words(vocabulary)
    yield from _repeated_words(vocabulary)
    yield from _colours(vocabulary)


def words_of(vocabulary: Vocabulary, number: int) -> tuple[str, ...]:
    """The prompt and the synonyms of a class."""
    return vocabulary.prompts[number], *vocabulary.synonyms[number]


def _shared_words(vocabulary: Vocabulary) -> Iterator[str]:
    classes: dict[str, dict[int, None]] = defaultdict(dict)  # dicts, for their order
    for number in range(len(vocabulary)):
        for word in words_of(vocabulary, number):
            classes[clean(word)][number] = None
    for word, numbers in classes.items():
        if len(numbers) > 1:
            names = ", ".join(short(vocabulary.names[number]) for number in numbers)
            yield f"{short(word)} stands for several classes: {names}"


def _repeated_words(vocabulary: Vocabulary) -> Iterator[str]:
    for number, name in enumerate(vocabulary.names):
        words = words_of(vocabulary, number)
        if len(set(map(clean, words))) < len(words):
            yield f"class {short(name)} has a word twice: {', '.join(map(short, words))}"
        for word in words:
            if word != " ".join(word.split()):
                yield f"class {short(name)} has spaces at an end or side by side: {short(word)}"


def _colours(vocabulary: Vocabulary) -> Iterator[str]:
    """Those of the background are never drawn."""
    drawn = len(vocabulary) if vocabulary.background is None else vocabulary.background.first
    own = (vocabulary.colored or ())[:drawn]
    lacking = [name for name, has in zip(vocabulary.names, own, strict=False) if not has]
    if any(own) and lacking:
        names = ", ".join(map(short, lacking[:5])) + (", ..." if len(lacking) > 5 else "")
        yield f"{len(lacking)} of {drawn} classes have no colour: {names}"
    classes: dict[tuple, list[str]] = defaultdict(list)
    for name, color in list(zip(vocabulary.names, vocabulary.colors, strict=True))[:drawn]:
        classes[color].append(name)
    for color, names in classes.items():
        if len(names) > 1:
            shared = ", ".join(map(short, names))
            yield f"the colour {list(color)} is that of several classes: {shared}"
