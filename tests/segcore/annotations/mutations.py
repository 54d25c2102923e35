"""Valid JSON documents with one thing changed; see test_mutations.py."""

import copy
import json
import random
from collections.abc import Iterator

INFINITE, HUGE, DEEP = "@infinite", "@huge", "@deep"  # what json.dumps cannot write
RAW = {INFINITE: "1e999", HUGE: "9" * 5000, DEEP: "[" * 5000 + "]" * 5000}
AGAIN = "\0"  # ends a duplicate key
NASTY = (
    *(None, True, False, [], {}, "", "x", "0", "9", "null", "0.5"),
    *(0, 1, 2, 3, -1, 0.5, -0.0, 1.0, 2.5, 1e-300, 96, 97, 100_000, 2**24, 2**31, 2**53 + 1),
    *(2**63, 2**64, 10**30, 10**400, -(10**30), 1e30, 1e308, -1e308),
    *(INFINITE, HUGE, DEEP, float("nan"), float("inf"), -float("inf")),
    *("..", "../x", "/etc/passwd", "a/../../b", "C:\\x", "\\\\x\\y", ".", "a/b", " ", "~", "~x/y"),
    *("a" * 300, "b" * 20_000, "\x00", "\x1b[2J", "two\nlines", "\ud800", "\uffff", "é", "猫"),
    *([None], [[]], [{}], [[[]]], [1], ["x"], [0] * 4, [-1] * 4, [None] * 4),
    *([[1, 2, 3]], [[0, 0, 1, 1]], [[1, 2]] * 3, [[None] * 6], [["1"] * 6], [[True] * 6]),
    *([[0, 0, 1e9, 0, 1e9, 1e9]], [[0, 0, 5, 0, 5, 5, 0, 5]], [[0, 0, 5, 0, 5, 5], [1, 1]]),
    *({"x": 1}, {"size": [32, 32]}, {"counts": [1]}, {"size": [32, 32], "counts": [5]}),
    *({"size": [32, 32], "counts": "ZZZZ"}, {"size": [32, 32], "counts": [1024]}),
    *({"size": [32, 32], "counts": [0, 1024]}, {"size": [32, 32], "counts": [-1, 1025]}),
    *({"size": [32, 32], "counts": ["1024"]}, {"size": ["32", 32], "counts": [1024]}),
    *({"size": [1, 1], "counts": [1]}, {"size": None, "counts": None}),
)


def mutants(document: dict, number: int, seed: int) -> Iterator[tuple[str, str]]:
    """Yield a description of the change, and the text of the changed document.

    A value anywhere is replaced by one of ``NASTY`` or by another value of the document, removed,
    or repeated: in a list as a further entry, in an object under the same key.
    """
    rng = random.Random(seed)
    paths = list(_paths(document, ()))
    for _ in range(number):
        changed = copy.deepcopy(document)
        path = rng.choice(paths)
        parent = changed
        for step in path[:-1]:
            parent = parent[step]
        key, what = path[-1], rng.choice(("nasty", "nasty", "nasty", "other", "gone", "again"))
        if what == "nasty":
            parent[key] = copy.deepcopy(rng.choice(NASTY))
        elif what == "other":
            parent[key] = copy.deepcopy(_at(document, rng.choice(paths)))
        elif what == "gone":
            del parent[key]
        elif isinstance(parent, list):
            parent.insert(rng.randrange(len(parent) + 1), copy.deepcopy(parent[key]))
        else:
            parent[f"{key}{AGAIN}"] = copy.deepcopy(rng.choice((parent[key], *NASTY)))
        yield f"{what} at {path}", to_text(changed)


def to_text(document: object) -> str:
    """Return JSON, with ``RAW`` and with duplicate keys."""
    text = json.dumps(document).replace(r'\u0000": ', '": ')
    for name, raw in RAW.items():
        text = text.replace(f'"{name}"', raw)
    return text


def _paths(value: object, path: tuple) -> Iterator[tuple]:
    """Yield the paths of all values below one, of long lists the ends alone."""
    if isinstance(value, dict):
        steps = list(value)
    elif isinstance(value, list):
        steps = [*range(len(value))][:3] + [*range(len(value))][3:][-1:]
    else:
        steps = []
    for step in steps:
        yield (*path, step)
        yield from _paths(value[step], (*path, step))


def _at(value: object, path: tuple) -> object:
    for step in path:
        value = value[step]
    return value
