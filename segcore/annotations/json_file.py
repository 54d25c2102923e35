"""Read JSON files of annotations, with a limit of size and strict about duplicate keys."""

import json
from pathlib import Path
from typing import NoReturn

from segcore.errors import UserError, printable

MAX_BYTES = 4 * 2**30  # the largest published ones have half a GiB


def read_annotations(path: str | Path) -> dict:
    """Return the object that a JSON file of annotations holds.

    Raises:
        UserError: as :func:`read_json_value`, or it holds something else.
    """
    content = read_json_value(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__} instead of an object: {{...}}")
    return content


def read_json_value(path: str | Path) -> object:
    """Return what a JSON file of annotations holds.

    NaN and Infinity, which JSON does not have, and keys that an entry has twice are refused.

    Raises:
        UserError: the file cannot be read, is too large or is not valid.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES or not path.is_file():
            raise UserError(f"{path} is no file of annotations of at most {MAX_BYTES >> 30} GiB")
        return json.loads(
            path.read_bytes(), object_pairs_hook=_unique_keys, parse_constant=_refuse_constant
        )
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except UserError:
        raise
    except RecursionError as error:
        raise UserError(f"{path} is not valid JSON: it is nested too deeply") from error
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON: {printable(error)}") from error


def _unique_keys(pairs: list[tuple[str, object]]) -> dict:
    entry = dict(pairs)
    if len(entry) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        plain = {key: value for key, value in pairs if isinstance(value, int | str)}
        raise ValueError(f"the key {printable(twice, 50)!r} occurs twice in the entry {plain}")
    return entry


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"it holds {name}, which is no number of JSON")
