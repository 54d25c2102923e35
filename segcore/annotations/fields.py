"""Read single values of an entry of a JSON file, and check their types.

Every function takes the entry, a key, and ``where``: the file and the entry, which begin an error
message. A value that is missing or wrong raises a UserError that names all three. Optional
values have a ``default``: the key may be absent, but null is never taken for an absent key.
"""

import math
from collections.abc import Mapping
from typing import Any

from segcore.errors import UserError, holds_control, printable
from segcore.images import MAX_PIXELS

MOST_CHARACTERS = 1000
MOST_INTEGER = 2**53  # up to here integers and JSON's doubles are the same
REQUIRED: Any = object()

Box = tuple[float, float, float, float]


def wrong(where: str, key: str | int, value: object, wanted: str) -> UserError:
    """Return the error for a value, of an object or a list, that is not what is ``wanted``."""
    if isinstance(value, list | dict):  # which may be long, and nested
        kind = "a list" if isinstance(value, list) else "an object"
        shown = f"{kind} of {len(value)}" if value else f"{kind} of nothing"
    else:
        shown = "null" if value is None else printable(repr(value), 60)
    return UserError(f"{_named(where, key)} is {shown}, but has to be {wanted}")


def _named(where: str, key: str | int) -> str:
    """Return the name of a value in messages; an integer key is an index into ``where``."""
    return f"{where}[{key}]" if isinstance(key, int) else f"{where}: {key!r}"


def value_of(entry: Mapping, key: str, where: str, default: Any = REQUIRED) -> Any:
    """Return a value of any type.

    Raises:
        UserError: the key is absent, and there is no default.
    """
    value = entry.get(key, default)
    if value is REQUIRED:
        raise UserError(f"{where} has no {key!r}: add it")
    return value


def entries(entry: Mapping, key: str, where: str) -> list[dict]:
    """Return a list of objects."""
    found = value_of(entry, key, where)
    if not isinstance(found, list):
        raise wrong(where, key, found, "a list")
    for number, each in enumerate(found):
        if not isinstance(each, dict):
            raise wrong(where, f"{key}[{number}]", each, "an object")
    return found


def text(entry: Mapping, key: str, where: str) -> str:
    """Return a text of at most ``MOST_CHARACTERS`` that can be printed and written."""
    found = value_of(entry, key, where)
    if not isinstance(found, str) or not found:
        raise wrong(where, key, found, "a text")
    if len(found) > MOST_CHARACTERS or holds_control(found):
        wanted = f"a text of at most {MOST_CHARACTERS} characters, none of them of control"
        raise wrong(where, key, found, wanted)
    return found


def integer(
    entry: Mapping,
    key: str,
    where: str,
    *,
    least: int = -MOST_INTEGER,
    most: int = MOST_INTEGER,
    default: Any = REQUIRED,
) -> int:
    """Return a whole number from ``least`` to ``most``; 480.0 is one, too."""
    found = value_of(entry, key, where, default)
    if type(found) is float and found.is_integer():
        found = int(found)
    if type(found) is not int or not least <= found <= most:
        bounds = f" from {least} to {most}" if most < MOST_INTEGER else ""
        bounds = bounds or (f" from {least} on" if least > -MOST_INTEGER else "")
        raise wrong(where, key, found, f"a whole number{bounds}")
    return found


def is_number(value: object) -> bool:
    """Return whether a value is a number of JSON that a double can hold."""
    kind = type(value)
    return (kind is float and math.isfinite(value)) or (
        kind is int and -MOST_INTEGER <= value <= MOST_INTEGER
    )


def number(
    entry: Mapping, key: str, where: str, *, least: float, most: float, default: Any = REQUIRED
) -> float:
    """Return a number from ``least`` to ``most``; ``default`` as it is."""
    found = value_of(entry, key, where, default)
    if key not in entry:
        return default
    if not is_number(found) or not least <= found <= most:
        raise wrong(where, key, found, f"a number from {least} to {most}")
    return found


def flag(entry: Mapping, key: str, where: str, default: Any = REQUIRED) -> bool:
    """Return 0, 1, false or true as a bool."""
    found = value_of(entry, key, where, default)
    if type(found) not in (bool, int) or found not in (0, 1):
        raise wrong(where, key, found, "0 or 1")
    return bool(found)


def identifier(entry: Mapping, key: str, where: str) -> int | str:
    """Return the id of an image or video: a whole number, or a text."""
    found = value_of(entry, key, where)
    if isinstance(found, str):
        return text(entry, key, where)
    return integer(entry, key, where)


def box(entry: Mapping, key: str, where: str, default: Any = REQUIRED) -> Box:
    """Return x, y, width and height of a box; ``default`` as it is."""
    found = value_of(entry, key, where, default)
    if key not in entry:
        return default
    sound = isinstance(found, list) and len(found) == 4 and all(map(is_number, found))
    if not sound or min(found[2:]) < 0:
        raise wrong(where, key, found, "[x, y, width, height], four numbers, the last two positive")
    return tuple(found)


def size(entry: Mapping, where: str) -> tuple[int, int]:
    """Return ``height`` and ``width`` of an image of at most ``MAX_PIXELS``."""
    height, width = (
        integer(entry, key, where, least=1, most=MAX_PIXELS) for key in ("height", "width")
    )
    if height * width > MAX_PIXELS:
        raise UserError(f"{where}: {height} x {width} pixels are more than {MAX_PIXELS}")
    return height, width


def category(entry: Mapping, key: str, where: str, known: Mapping[int, object]) -> int:
    """Return a category id that is a key of ``known``."""
    found = integer(entry, key, where)
    if found not in known:
        raise wrong(where, key, found, "the id of one of the file's categories")
    return found


def categories(content: Mapping, path: object) -> dict[int, dict]:
    """Return the categories of a file by id; each has a ``name`` and an id of its own."""
    found: dict[int, dict] = {}
    for number, entry in enumerate(entries(content, "categories", str(path))):
        where = f"{path}: categories[{number}]"
        id = integer(entry, "id", where)
        if id in found:
            raise wrong(where, "id", id, "one that no other category has")
        text(entry, "name", where)
        found[id] = entry
    return found
