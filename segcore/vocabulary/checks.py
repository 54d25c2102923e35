"""Check a user's vocabulary; every error is one message.

Rows are the entries of ``classes`` in a file; ``where`` names the source in messages.
"""

import functools
import html
import re
import unicodedata
from collections.abc import Sequence

import ftfy

from segcore.errors import UserError, holds_control, printable

MAX_NAME_CHARACTERS = 300  # the longest published name has 113; 77 tokens are checked when encoding
MAX_TEMPLATES = 1000
SPECIAL_MARKERS = ("<|startoftext|>", "<|endoftext|>", "<start_of_text>", "<end_of_text>")


@functools.lru_cache(maxsize=1 << 16)
def clean(text: str) -> str:
    """Return the text as CLIP's tokenizer normalises it: equal results are the same prompt."""
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return re.sub(r"\s+", " ", text).strip().lower()


def checked_row(row: object, number: int, where: object) -> dict:
    """Return a class as a dict with name, prompt and synonyms, all strings checked."""
    if isinstance(row, str):
        prompt, *synonyms = row.split(", ")
        row = {"name": row.strip(), "prompt": prompt, "synonyms": synonyms}
    if not isinstance(row, dict) or not isinstance(row.get("name"), str):
        raise UserError(f"{where}: class {number} needs to be a string or an object with a name")
    row = {"prompt": row["name"], "synonyms": [], **row}
    if not isinstance(row["synonyms"], list):
        raise UserError(f"{where}: the synonyms of {short(row['name'])} need to be a list")
    for text in (row["name"], row["prompt"], *row["synonyms"]):
        check_text(text, f"class {number}", where)
    if row.get("color") is not None:
        row["color"] = _color(row["color"], row["name"], where)
    return row


def check_text(text: object, what: str, where: object) -> None:
    """Refuse a value that is no readable, printable string.

    Args:
        text: the value.
        what: its role, such as ``class 3``.
        where: the source, for the error message.
    """
    if not isinstance(text, str) or len(text) > MAX_NAME_CHARACTERS:
        raise UserError(f"{where}: {what} needs a text of at most {MAX_NAME_CHARACTERS} characters")
    if holds_control(text):
        raise UserError(
            f"{where}: the name of {what}, {short(text)}, holds a control character: remove it"
        )
    cleaned = clean(text)
    if not any(unicodedata.category(c)[0] not in "ZC" for c in cleaned):
        raise UserError(f"{where}: the name of {what} is empty: write it or remove it")
    marker = next((m for m in SPECIAL_MARKERS if m in cleaned), None)
    if marker:
        raise UserError(
            f"{where}: the name of {what} holds the tokenizer's marker {marker}: remove it"
        )


def check_unique(rows: Sequence[dict], where: object) -> None:
    """Refuse two classes of one name."""
    numbers: dict[str, int] = {}
    for number, row in enumerate(rows, 1):
        other = numbers.setdefault(clean(row["name"]), number)
        if other != number:
            raise UserError(
                f"{where}: classes {other} and {number} are both named {short(row['name'])}: "
                "keep one of them"
            )


def checked_flags(rows: Sequence[dict], key: str, where: object) -> tuple[bool, ...] | None:
    """Return the flags under ``key``, one per class, or None if no class has one."""
    values = [row[key] for row in rows if row.get(key) is not None]
    if not values:
        return None
    if len(values) != len(rows) or not all(value in (0, 1) for value in values):
        raise UserError(f"{where}: {key!r} needs to be true or false for every class, or for none")
    return tuple(map(bool, values))


def checked_templates(templates: object, where: object) -> tuple[str, ...]:
    """Return prompt templates with one ``{}`` each, none twice; () if the vocabulary has none."""
    if not isinstance(templates, list) or len(templates) > MAX_TEMPLATES:
        raise UserError(f"{where}: 'templates' needs to be a list of at most {MAX_TEMPLATES} texts")
    for template in templates:
        braces = re.findall(r"[{}]", template) if isinstance(template, str) else []
        if braces != ["{", "}"] or "{}" not in template:
            raise UserError(
                f"{where}: the template {short(str(template))} needs to be a text with one {{}}, "
                "the position of the class name"
            )
        check_text(template, f"the template {short(template)}", where)
    if len(set(templates)) < len(templates):
        twice = next(template for template in templates if templates.count(template) > 1)
        raise UserError(f"{where}: the template {short(twice)} occurs twice: remove one")
    return tuple(templates)


def checked_ignore_label(table: dict, num_classes: int, where: object) -> int | None:
    """Return the value of pixels without a class; by default the largest of 8 or 16 bits.

    Args:
        table: of the file.
        num_classes: number of classes in label maps.
        where: the source, for error messages.
    """
    default = next((most for most in (255, 65535) if num_classes <= most), None)
    value = table.get("ignore_label", default)
    if value is None:
        return None
    if type(value) is not int or not 0 <= value < 1 << 31:
        raise UserError(
            f"{where}: 'ignore_label' needs to be a whole number of at most 31 bits, such as 255"
        )
    if value < num_classes:
        raise UserError(
            f"{where}: 'ignore_label' {value} is the id of a class, whose pixels would be ignored: "
            f"take a number from {num_classes} on"
        )
    return value


def checked_background(node: object, num_classes: int, where: object) -> dict | None:
    """Return ``first``, ``name`` and ``color`` of the background; None if there is none."""
    if node is None:
        return None
    node = {"name": "background", "color": [0, 0, 0]} | (node if isinstance(node, dict) else {})
    names = node.get("words")
    first = num_classes if names else node.get("first")
    if (
        not isinstance(names, list | None)
        or type(first) is not int
        or not isinstance(node["name"], str)
    ):
        raise UserError(
            f"{where}: 'background' needs to be an object with 'words', a list of class names, or "
            "with 'first', the id of the first class (from 0) that belongs to it"
        )
    if not names and not 0 < first < num_classes:
        raise UserError(
            f"{where}: the background begins with class {first}, but needs to begin with one of "
            f"1 ... {num_classes - 1}"
        )
    check_text(node["name"], "the background", where)
    color = _color(node["color"], node["name"], where)
    return {"first": first, "name": node["name"], "color": color}


def background_classes(node: object, rows: Sequence[object]) -> list[dict]:
    """Return the classes that a checked ``background`` adds after ``rows``."""
    names = node.get("words", ()) if isinstance(node, dict) else ()
    flags = {
        key: False
        for key in ("seen", "isthing")
        if any(isinstance(row, dict) and row.get(key) is not None for row in rows)
    }
    return [{"name": name} | flags for name in names or ()]


def _color(value: object, name: str, where: object) -> tuple[int, int, int]:
    channels = value if isinstance(value, list) else ()
    if len(channels) == 3 and all(type(v) is int and 0 <= v <= 255 for v in channels):
        return tuple(channels)
    raise UserError(f"{where}: the colour of {short(name)} needs to be [r, g, b] within 0..255")


def short(text: str) -> str:
    """Return the text in quotes, shortened for a message."""
    return printable(repr(text if len(text) <= 40 else text[:37] + "..."))
