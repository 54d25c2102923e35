"""Read class names from JSON files, text files with one name per line, and typed lines.

:mod:`segcore.vocabulary.checks` checks their contents.
"""

import json
import logging
import re
from collections.abc import Sequence
from pathlib import Path

from segcore.errors import UserError, printable
from segcore.vocabulary.checks import short

logger = logging.getLogger(__name__)

MAX_FILE_BYTES = 16 * 2**20
MAX_DEPTH = 50  # of nested lists and objects; a description of data sets has 4
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
LINE_END = re.compile(r"\r\n|\n|\r")
# Suffixes of files that may hold lists of names. No class name ends so.
FILE_ENDING = re.compile(
    r"\.(json|jsonl|txt|text|csv|tsv|tab|ya?ml|toml|xml|ini|cfg|names?|labels?|list|lst|dat|data|md"
    r"|html?|png|jpe?g|gif|bmp|tiff?|webp|mp4|pdf|docx?|xlsx?|ods|odt|py|pbtxt|pickle|pkl|npy|npz|pth?|parquet|zip|gz)$",
    re.IGNORECASE,
)
OTHER_SEPARATORS = re.compile("[;|\uff0c\u3001\uff1b]")  # besides the comma, in full width too
SENTENCE_WORDS = 5  # a class name with so many words looks like a sentence
PATH_START = re.compile(r"~|/|\.{1,2}[/\\]|[A-Za-z]:[/\\]|\\\\")


def looks_like_file(text: str) -> bool:
    """Return whether a text looks like a path or file name, by its beginning or end."""
    return bool(FILE_ENDING.search(text.strip()) or PATH_START.match(text.strip()))


def checked_line(names: Sequence[str]) -> Sequence[str]:
    """Return the class names of a typed, comma-separated line; warn of likely typing errors.

    Raises:
        UserError: a name looks like a file, or holds a tab or a line break.
    """
    for name in names:
        if looks_like_file(name):
            raise UserError(
                f"there is no file {short(name)}, and it is no class name: give a JSON file, a "
                ".txt with one class a line, or class names separated by commas"
            )
        if re.search(r"[\t\n\r]", name):
            raise UserError(
                f"{short(name)} holds a tab or a line break: separate classes by commas, or give a "
                ".txt with one class a line"
            )
        if mark := OTHER_SEPARATORS.search(name):
            logger.warning("%s is one class: commas separate classes, not %s", short(name), mark[0])
    if len(names) == 1 and (
        len(names[0].split()) >= SENTENCE_WORDS or names[0].endswith((".", "!", "?"))
    ):
        logger.warning(
            "the only class is %s, which looks like a sentence: commas separate classes",
            short(names[0]),
        )
    return names


def read_json(path: str | Path) -> object:
    """Return the contents of a user's JSON file.

    Raises:
        UserError: it has more than 16 MiB, is nested too deep, or is no JSON.
    """
    return parse_json(_read_text(Path(path), "JSON"), printable(path))


def parse_json(text: str, name: str) -> object:
    """Return what JSON text holds; ``name`` stands for it in error messages.

    Raises:
        UserError: it is nested too deep, or is no JSON.
    """
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{name} is not valid JSON (line {error.lineno}): correct it") from error
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{name} is nested too deep or holds a number of too many digits"
        ) from error
    _check_depth(content, name)
    return content


def read_names(path: str | Path) -> list[str]:
    """Return the class names of a text file, one per line.

    Spaces around a name, empty lines, and lines that begin with ``#`` are left out.

    Raises:
        UserError: it has more than 16 MiB, or is not UTF-8.
    """
    lines = map(str.strip, LINE_END.split(_read_text(Path(path), "text")))
    return [line for line in lines if line and not line.startswith("#")]


def _read_text(path: Path, kind: str) -> str:
    name = printable(path)
    try:
        if path.stat().st_size > MAX_FILE_BYTES or not path.is_file():
            raise UserError(f"{name} is not a {kind} file of at most {MAX_FILE_BYTES >> 20} MiB")
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {name}: {error.strerror}") from error
    if content.startswith(UTF_16):
        raise UserError(f"{name} is UTF-16 text: save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is not UTF-8 text: save it as UTF-8") from error


def _check_depth(content: object, name: str) -> None:
    level = [content]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for node in level
            if isinstance(node, list | dict)
            for child in (node.values() if isinstance(node, dict) else node)
        ]
        if not level:
            return
    raise UserError(f"{name} is nested too deep: more than {MAX_DEPTH} levels")
