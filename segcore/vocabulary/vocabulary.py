"""Load vocabularies: the classes of a benchmark, or class names that a user gives.

A vocabulary comes from a registered name, a JSON file, a list of class names, or a typed line::

    Vocabulary.load("ade20k_150")                # shipped with the package, see registered_names()
    Vocabulary.load("datasets/ade150.json")      # the file where it exists, else the alias `ade150`
    Vocabulary.load("names.txt")                 # one class per line
    Vocabulary.load(["sky", "sofa, couch"])      # in a list ", " separates synonyms of one class
    Vocabulary.load("sky, tree, my dog")         # in a typed line commas separate classes

A JSON file holds a list of strings, or an object like those in ``segcore/vocabularies``: ``name``,
``ignore_label``, ``templates``, ``background`` and ``classes``, a list of ``{"name", "prompt",
"synonyms", "color", "isthing", "dataset_id", "seen"}`` in the order of the class ids, where only
``name`` is required. ``docs/reference/vocabularies.md`` describes them.
"""

import colorsys
import difflib
import functools
import hashlib
import itertools
import json
import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from segcore.errors import UserError, printable
from segcore.runtime.files import user_path
from segcore.vocabulary.checks import (
    background_classes,
    check_text,
    check_unique,
    checked_background,
    checked_flags,
    checked_ignore_label,
    checked_row,
    checked_templates,
    clean,
    short,
)
from segcore.vocabulary.files import checked_line, looks_like_file, read_json, read_names

FOLDER = Path(__file__).parents[1] / "vocabularies"
PUBLISHED_FOLDER = Path("datasets")  # the folder of class files in published configs

Color = tuple[int, int, int]
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Background:
    """Several prompts that together are one background class in label maps and results.

    Attributes:
        first: id of the first background class; all later classes are background, too.
        name: of the background class.
        color: of the background class, RGB.
    """

    first: int
    name: str = "background"
    color: Color = (0, 0, 0)


@dataclass(frozen=True)
class Vocabulary:
    """An ordered list of T classes; every tuple has T entries, index = class id.

    Attributes:
        name: of the vocabulary.
        names: class names, unique; keys of result tables.
        synonyms: further names of each class, possibly none.
        prompts: the text that stands for the class in a prompt.
        colors: RGB in 0..255, the published colour or one of a fixed palette.
        dataset_ids: value of the class in the downloaded labels (an RGB triple, or a list if
            several values mean the class; None if there is none).
        seen: whether the class occurs in training; None if no class is held out.
        isthing: True for things, False for stuff; None if the benchmark does not say.
        ignore_label: label value of pixels without a class.
        templates: prompt templates, each with one ``{}`` for the class name; () uses the model's.
        background: the background classes, None if there are none.
        colored: whether the colour is given for the class; otherwise it is one of the palette.
    """

    name: str
    names: tuple[str, ...]
    synonyms: tuple[tuple[str, ...], ...]
    prompts: tuple[str, ...]
    colors: tuple[Color, ...]
    dataset_ids: tuple | None = None
    seen: tuple[bool, ...] | None = None
    isthing: tuple[bool, ...] | None = None
    ignore_label: int | None = 255
    templates: tuple[str, ...] = ()
    background: Background | None = None
    colored: tuple[bool, ...] | None = None

    def __len__(self) -> int:
        return len(self.names)

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the classes of label maps, in which the background is one class."""
        if self.background is None:
            return self.names
        return *self.names[: self.background.first], self.background.name

    @property
    def label_colors(self) -> tuple[Color, ...]:
        """Colours of :attr:`label_names`."""
        if self.background is None:
            return self.colors
        return *self.colors[: self.background.first], self.background.color

    @functools.cached_property
    def hash(self) -> str:
        """SHA-256 (hex) of the model's input: prompts, synonyms and templates, in order."""
        content = [
            [prompt, *rest] for prompt, rest in zip(self.prompts, self.synonyms, strict=True)
        ]
        if self.templates:
            content = [content, self.templates]
        text = json.dumps(content, ensure_ascii=True, separators=(",", ":"))
        return hashlib.sha256(text.encode("ascii")).hexdigest()

    @classmethod
    def load(cls, source: "Vocabulary | str | Path | Iterable[str]") -> "Vocabulary":
        """Return the vocabulary of a name, file or list; see the module's docstring.

        A string is tried as an existing file, a registered name or alias (also in the form of
        published configs, ``datasets/<alias>.json``), then as typed class names. A single name with
        a digit, an underscore or a slash counts as the name of a vocabulary, and no class name may
        look like a file name, so that a typing error does not become a class.

        Raises:
            UserError: there is nothing of that name, or the vocabulary has an error.
        """
        if isinstance(source, Vocabulary):
            return source
        return _warn_of_shared_prompts(cls._find(source))

    @classmethod
    def _find(cls, source: "str | Path | Iterable[str]") -> "Vocabulary":
        if not isinstance(source, (str, Path)):
            return cls.from_class_names(source)
        text = str(source)
        path = _existing_file(text)
        if path is not None:
            return cls.from_file(path)
        if isinstance(source, Path) or text.endswith(".json"):
            if Path(text).parent != PUBLISHED_FOLDER:
                raise UserError(
                    f"there is no file {short(text)}: give an existing file, a registered name "
                    "such as ade20k_150, or class names separated by commas"
                )
            return cls.registered(Path(text).stem, asked=text)
        if text in _aliases():
            return cls.registered(text)
        return cls._typed(text)

    @classmethod
    def _typed(cls, text: str) -> "Vocabulary":
        """Return the vocabulary of a typed line, which may be a misspelt registered name."""
        names = [name.strip() for name in text.split(",")]
        if len(names) == 1 and re.search(r"[\d_/\\]", text) and not re.search(r"\s", text.strip()):
            return cls.registered(text, asked=text if looks_like_file(text) else None)
        return cls.from_class_names(checked_line(names))

    @classmethod
    def from_class_names(cls, classes: Iterable[str], name: str = "words") -> "Vocabulary":
        """Return a vocabulary with one class per string.

        ``", "`` separates the synonyms of a class; the first one is the prompt.
        """
        return _build({"classes": list(classes)}, name, "the list of class names")

    @classmethod
    def from_file(cls, path: str | Path) -> "Vocabulary":
        """Read a JSON file (a list of strings or an object with ``classes``) or a text file.

        A text file, ``.txt``, has one class per line, in the form of a string of a list; empty
        lines and lines that begin with ``#`` are left out.
        """
        path, where = user_path(path), printable(path)
        if path.suffix.lower() == ".txt":
            return _build({"classes": read_names(path)}, printable(path.stem), where)
        if path.suffix.lower() not in ("", ".json"):
            raise UserError(
                f"{where} is no vocabulary: give a JSON file, or a .txt file with one class a line"
            )
        table = read_json(path)
        table = table if isinstance(table, dict) else {"classes": table}
        return _build(table, printable(path.stem), where)

    def to_table(self) -> dict:
        """Return the content of a JSON file that :meth:`from_file` reads as the same vocabulary."""
        columns = {
            "name": self.names,
            "prompt": self.prompts,
            "synonyms": map(list, self.synonyms),
            "color": map(list, self.colors),
            "palette": self.colored and [not given or None for given in self.colored],
            "dataset_id": self.dataset_ids,
            "seen": self.seen,
            "isthing": self.isthing,
        }
        given = {key: column for key, column in columns.items() if column}
        classes = [
            {key: value for key, value in zip(given, row, strict=True) if value is not None}
            for row in zip(*given.values(), strict=True)
        ]
        table = {"name": self.name, "ignore_label": self.ignore_label}
        if self.templates:
            table["templates"] = list(self.templates)
        if self.background is not None:
            table["background"] = asdict(self.background)
        return table | {"classes": classes}

    @classmethod
    def from_table(cls, table: dict, where: object) -> "Vocabulary":
        """Return the vocabulary that :meth:`to_table` made a table of.

        Raises:
            UserError: the table has a fault; the message begins with ``where``.
        """
        return _build(table, "words", where)

    @classmethod
    def registered(cls, name: str, asked: str | None = None) -> "Vocabulary":
        """Return a vocabulary that ships with the package, by name or alias.

        ``asked`` is the user's text if it is not the name itself (a path).
        """
        if name not in _aliases():
            near = difflib.get_close_matches(name[:100], _aliases(), n=1, cutoff=0.0)[0]
            file = printable(repr(asked))
            what = f"no file {file} and no registered vocabulary" if asked else "no vocabulary"
            raise UserError(
                f"there is {what} named {short(name)}; the nearest registered name is {near!r} "
                "(for custom classes: a JSON file, or class names separated by commas)"
            )
        return _registered(_aliases()[name])


@functools.cache
def _registered(name: str) -> Vocabulary:
    return _build(vocabulary_table(name), name, FOLDER / f"{name}.json")


def registered_names() -> tuple[str, ...]:
    """Return the names of the vocabularies that ship with the package, sorted."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.json")))


@functools.cache
def vocabulary_table(name: str) -> dict:
    """Return the JSON object of a registered vocabulary: classes, data sets, source."""
    return read_json(FOLDER / f"{name}.json")


@functools.cache
def _aliases() -> dict[str, str]:
    """Return {name or alias: registered name}."""
    names = {name: name for name in registered_names()}
    return names | {a: name for name in names for a in vocabulary_table(name).get("aliases", ())}


def distinct_colors(count: int, taken: Iterable[Color] = ()) -> list[Color]:
    """Return ``count`` different RGB colours, none of ``taken``; every call returns the same.

    Hues advance by the golden ratio, so that neighbours in the list differ clearly. After a few
    thousand of these, the function walks through all RGB colours.
    """
    used, colors = set(taken), []
    for step in itertools.count():
        if len(colors) == count:
            return colors
        color = _hue(step) if step < 8192 else _scattered(step)
        if color not in used:
            used.add(color)
            colors.append(color)


def _hue(step: int) -> Color:
    saturation, value = (0.85, 0.55, 0.7)[step % 3], (0.95, 0.8, 0.6, 0.45)[step % 4]
    rgb = colorsys.hsv_to_rgb(step * 0.618033988749895 % 1.0, saturation, value)
    return tuple(round(255 * channel) for channel in rgb)


def _scattered(step: int) -> Color:
    number = step * 10_368_889 % (1 << 24)  # an odd factor, so each colour comes once
    return number >> 16, number >> 8 & 255, number & 255


def _existing_file(text: str) -> Path | None:
    """Return the path if the file exists, else None."""
    try:
        path = user_path(text)
        return path if path.is_file() else None
    except (OSError, ValueError):  # too long for a path, or no path at all
        return None


def _build(table: dict, name: str, where: object) -> Vocabulary:
    """Return a checked vocabulary; ``where`` names the source in messages."""
    rows = table.get("classes")
    if not isinstance(rows, list) or not rows:
        raise UserError(f"{where} holds no classes: give at least one name")
    background = checked_background(table.get("background"), len(rows), where)
    rows = [*rows, *background_classes(table.get("background"), rows)]
    rows = [checked_row(row, number, where) for number, row in enumerate(rows, 1)]
    check_unique(rows, where)
    published = [row.get("color") for row in rows]
    name = table.get("name", name)
    check_text(name, "the vocabulary", where)
    labelled = background["first"] + 1 if background else len(rows)
    drawn = iter(distinct_colors(published.count(None), filter(None, published)))

    return Vocabulary(
        name=name,
        names=tuple(row["name"] for row in rows),
        synonyms=tuple(tuple(row["synonyms"]) for row in rows),
        prompts=tuple(row["prompt"] for row in rows),
        colors=tuple(color or next(drawn) for color in published),
        dataset_ids=_dataset_ids(rows),
        seen=checked_flags(rows, "seen", where),
        isthing=checked_flags(rows, "isthing", where),
        ignore_label=checked_ignore_label(table, labelled, where),
        templates=checked_templates(table.get("templates", []), where),
        background=background and Background(**background),
        colored=tuple(row.get("color") is not None and not row.get("palette") for row in rows),
    )


def _dataset_ids(rows: Sequence[dict]) -> tuple | None:
    values = tuple(_frozen(row.get("dataset_id")) for row in rows)
    return values if any(value is not None for value in values) else None


def _warn_of_shared_prompts(vocabulary: Vocabulary) -> Vocabulary:
    """Warn of classes with equal prompts, which published lists have too: it is no error."""
    classes: dict[str, list[str]] = {}
    for prompt, name in zip(vocabulary.prompts, vocabulary.names, strict=True):
        classes.setdefault(clean(prompt), []).append(name)
    shared = [prompt for prompt, names in classes.items() if len(names) > 1]
    if shared:
        logger.warning(
            "vocabulary %s: %d prompts stand for several classes, which get equal scores: %s",
            vocabulary.name,
            len(shared),
            ", ".join(map(short, shared[:10])),
        )
    return vocabulary


def _frozen(value: object) -> object:
    return tuple(_frozen(v) for v in value) if isinstance(value, list) else value
