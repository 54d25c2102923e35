"""What a vocabulary of a user's is checked for; every fault is one sentence.

Rows are the entries of ``classes`` in a file; ``where`` names the source in messages.
"""

import html
import json
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import ftfy

from segcore.errors import UserError

MAX_FILE_BYTES = 16 * 2**20
MAX_NAME_CHARACTERS = 300  # the longest published name has 113; 77 tokens are checked when encoding
MAX_TEMPLATES = 1000
SPECIAL_MARKERS = ("<|startoftext|>", "<|endoftext|>", "<start_of_text>", "<end_of_text>")
BIDI_CONTROLS = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def clean(text: str) -> str:
    """The text as CLIP's tokenizer sees it: two texts with one result are one prompt."""
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return re.sub(r"\s+", " ", text).strip().lower()


def read_json(path: str | Path) -> object:
    """A JSON file of the user's, at most 16 MiB."""
    path = Path(path)
    try:
        if path.stat().st_size > MAX_FILE_BYTES or not path.is_file():
            raise UserError(f"{path} is not a JSON file of at most {MAX_FILE_BYTES >> 20} MiB")
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    try:
        return json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: save it as UTF-8") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not valid JSON (line {error.lineno}): correct it") from error
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path} is nested too deep or holds a number of too many digits"
        ) from error


def checked_row(row: object, number: int, where: object) -> dict:
    """One class as a dict with name, prompt and synonyms, every text checked."""
    if isinstance(row, str):
        prompt, *synonyms = row.split(", ")
        row = {"name": row.strip(), "prompt": prompt, "synonyms": synonyms}
    if not isinstance(row, dict) or not isinstance(row.get("name"), str):
        raise UserError(f"{where}: class {number} needs to be a string or an object with a name")
    row = {"prompt": row["name"], "synonyms": [], **row}
    if not isinstance(row["synonyms"], list):
        raise UserError(f"{where}: the synonyms of {short(row['name'])} need to be a list")
    for text in (row["name"], row["prompt"], *row["synonyms"]):
        _check_text(text, number, where)
    if row.get("color") is not None:
        row["color"] = _color(row["color"], row["name"], where)
    return row


def _check_text(text: object, number: int, where: object) -> None:
    if not isinstance(text, str) or len(text) > MAX_NAME_CHARACTERS:
        raise UserError(
            f"{where}: class {number} needs a text of at most {MAX_NAME_CHARACTERS} characters"
        )
    cleaned = clean(text)
    if not any(unicodedata.category(c)[0] not in "ZC" for c in cleaned):
        raise UserError(f"{where}: the name of class {number} is empty: write it or remove it")
    if any(c in BIDI_CONTROLS or unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in text):
        raise UserError(
            f"{where}: the name of class {number}, {short(text)}, holds a control character: "
            "remove it"
        )
    marker = next((m for m in SPECIAL_MARKERS if m in cleaned), None)
    if marker:
        raise UserError(
            f"{where}: the name of class {number} holds the tokenizer's marker {marker}: remove it"
        )


def check_unique(rows: Sequence[dict], where: object) -> None:
    """Refuses two classes of one name."""
    numbers: dict[str, int] = {}
    for number, row in enumerate(rows, 1):
        other = numbers.setdefault(clean(row["name"]), number)
        if other != number:
            raise UserError(
                f"{where}: classes {other} and {number} are both named {short(row['name'])}: "
                "keep one of them"
            )


def checked_flags(rows: Sequence[dict], key: str, where: object) -> tuple[bool, ...] | None:
    """The flags under ``key``, one a class, or None where no class has one."""
    values = [row[key] for row in rows if row.get(key) is not None]
    if not values:
        return None
    if len(values) != len(rows) or not all(value in (0, 1) for value in values):
        raise UserError(f"{where}: {key!r} needs to be true or false for every class, or for none")
    return tuple(map(bool, values))


def checked_templates(templates: object, where: object) -> tuple[str, ...]:
    """Sentences with one ``{}`` each, none twice; () where a vocabulary has none of its own."""
    if not isinstance(templates, list) or len(templates) > MAX_TEMPLATES:
        raise UserError(f"{where}: 'templates' needs to be a list of at most {MAX_TEMPLATES} texts")
    for template in templates:
        braces = re.findall(r"[{}]", template) if isinstance(template, str) else []
        if braces != ["{", "}"] or "{}" not in template:
            raise UserError(
                f"{where}: the template {short(str(template))} needs to be a sentence with one "
                "{}, where the word goes"
            )
        if len(template) > MAX_NAME_CHARACTERS or templates.count(template) > 1:
            raise UserError(
                f"{where}: the template {short(template)} is there twice, or has more than "
                f"{MAX_NAME_CHARACTERS} characters: shorten or remove it"
            )
    return tuple(templates)


def checked_background(node: object, num_classes: int, where: object) -> dict | None:
    """``first``, ``name`` and ``color`` of the background; None where there is none."""
    if node is None:
        return None
    node = {"name": "background", "color": [0, 0, 0]} | (node if isinstance(node, dict) else {})
    words = node.get("words")
    first = num_classes if words else node.get("first")
    if (
        not isinstance(words, list | None)
        or type(first) is not int
        or not isinstance(node["name"], str)
    ):
        raise UserError(
            f"{where}: 'background' needs to be an object with 'words', a list of them, or with "
            "'first', the number of the first class (from 0) that belongs to it"
        )
    if not words and not 0 < first < num_classes:
        raise UserError(
            f"{where}: the background begins with class {first}, but needs to begin with one of "
            f"1 ... {num_classes - 1}"
        )
    color = _color(node["color"], node["name"], where)
    return {"first": first, "name": node["name"], "color": color}


def background_words(node: object, rows: Sequence[object]) -> list[dict]:
    """The classes that a checked ``background`` adds behind ``rows``."""
    words = node.get("words", ()) if isinstance(node, dict) else ()
    flags = {
        key: False
        for key in ("seen", "isthing")
        if any(isinstance(row, dict) and row.get(key) is not None for row in rows)
    }
    return [{"name": word} | flags for word in words or ()]


def _color(value: object, name: str, where: object) -> tuple[int, int, int]:
    channels = value if isinstance(value, list) else ()
    if len(channels) == 3 and all(type(v) is int and 0 <= v <= 255 for v in channels):
        return tuple(channels)
    raise UserError(f"{where}: the colour of {short(name)} needs to be [r, g, b] within 0..255")


def short(text: str) -> str:
    """The text in quotes, shortened for a message."""
    return repr(text if len(text) <= 40 else text[:37] + "...")
