"""Translate names of parameters between a published layout and ours, by tables of patterns."""

import re
from collections.abc import Sequence


class Renaming:
    """A table of name patterns, read in both directions.

    Args:
        pairs: (published, ours) patterns of whole names, of which the first match wins; ``#``
            stands for a number and ``*`` for the rest of the name. Names that match no pattern are
            the same in both layouts.
    """

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        self._to_ours = _rules(pairs)
        self._to_published = _rules([(ours, published) for published, ours in pairs])

    def to_ours(self, name: str) -> str:
        """Return our name of a published parameter."""
        return _rename(name, self._to_ours)

    def to_published(self, name: str) -> str:
        """Return the published name of one of our parameters."""
        return _rename(name, self._to_published)


def _rules(pairs: Sequence[tuple[str, str]]) -> list[tuple[re.Pattern, str]]:
    """Compile pairs to rules: a regular expression, and the template that its match expands."""
    rules = []
    for source, target in pairs:
        pattern = re.escape(source).replace(r"\#", r"(\d+)").replace(r"\*", "(.+)")
        groups = iter(f"\\{number}" for number in range(1, 10))
        template = "".join(next(groups) if sign in "#*" else sign for sign in target)
        rules.append((re.compile(pattern), template))
    return rules


def _rename(name: str, rules: Sequence[tuple[re.Pattern, str]]) -> str:
    for pattern, template in rules:
        if match := pattern.fullmatch(name):
            return match.expand(template)
    return name
