"""Read config files: YAML without executing anything, in bounded time, with a ``_BASE_`` chain.

A config file is untrusted. It is read, or refused with one error message that names it. No file
takes long: its size, the number of its values and their nesting are limited, and a base of several
files is read once.
"""

import re
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError

from segcore.errors import UserError, printable
from segcore.runtime.files import user_path

# Beside the package in a source folder, inside the package in an installed wheel.
CONFIG_FOLDERS = (
    Path(__file__).resolve().parents[2] / "configs",
    Path(__file__).resolve().parents[1] / "configs",
)
MAX_CONFIG_BYTES = 256 << 10
MAX_VALUES = 20_000  # keys, values and lists of a file; a whole written config has 1,500
MAX_DEPTH = 40
MAX_FILES = 100  # that belong to one config
MAX_NUMBER_CHARACTERS = 64
BASE_KEY = "_BASE_"


def read_chain(path: Path) -> list[tuple[Path, dict]]:
    """Return a config file and its bases with their contents, the outermost base first.

    Several bases of a file apply in turn, the later ones win. A file that is a base twice counts
    where it comes last: what it sets earlier is set again there.

    Raises:
        UserError: a file cannot be read or is no config, or the bases do not end.
    """
    found: list[tuple[Path, dict]] = []
    _collect(path, found, read=set(), children=())
    return found[::-1]


def _collect(
    path: Path, found: list[tuple[Path, dict]], read: set[Path], children: tuple[Path, ...]
) -> None:
    """Append the file and then its bases, the last one first, those of ``read`` left out."""
    resolved = path.resolve()
    if resolved in children:
        raise UserError(f"{printable(path)} is its own {BASE_KEY}: the chain of bases must end")
    if resolved in read:
        return
    read.add(resolved)
    if len(read) > MAX_FILES:
        raise UserError(f"{printable(path)} is one of more than {MAX_FILES} bases: merge some")
    tree = read_yaml(path)
    bases = _bases(path, tree.pop(BASE_KEY, []))
    found.append((path, tree))
    for base in reversed(bases):
        _collect(base, found, read, (*children, resolved))


def _bases(path: Path, value: Any) -> list[Path]:
    """Return the files that ``_BASE_`` names, relative to the file that holds it; a name of which
    there is no such file is that of one of CatRank's configs."""
    names = value if isinstance(value, list) else [value]
    if not all(isinstance(name, str) and name for name in names):
        raise UserError(
            f"{printable(path)}: {BASE_KEY} is {printable(value)}, but takes the name of a config "
            "file, or a list of them"
        )
    bases = []
    for name in names:
        try:
            files = [folder / user_path(name) for folder in (path.parent, *CONFIG_FOLDERS)]
        except UserError as error:
            raise UserError(f"{printable(path)}: {BASE_KEY} {error}") from error
        base = next(filter(is_file, files), None)
        if base is None:
            raise UserError(f"{printable(path)}: its {BASE_KEY} {printable(name)} is not a file")
        bases.append(base)
    return bases


def is_file(path: str | Path) -> bool:
    """Return whether the file exists; False for a name that no file can have."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):  # too long, or with a NUL or half a surrogate pair in it
        return False


def read_yaml(path: Path) -> dict:
    """Return the keys and values of one file.

    Raises:
        UserError: it cannot be read, or is no config.
    """
    name = printable(path)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise UserError(f"{name} cannot be read: {error.strerror}") from error
    if len(content) > MAX_CONFIG_BYTES:
        raise UserError(f"{name} has more than {MAX_CONFIG_BYTES} bytes: it is no config")
    try:
        tree = yaml.load(content.decode("utf-8"), Loader=_SafeLoader)
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is not UTF-8 text: save it as UTF-8") from error
    except ConstructorError as error:
        raise UserError(f"{name}: {_described(error)}; it was not read") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{name} is not valid YAML: {_described(error)}") from error
    if not isinstance(tree, dict | None):
        raise UserError(f"{name} holds no keys: a config is lines of KEY: value")
    return tree or {}


def _described(error: Exception) -> str:
    """Return PyYAML's error message in one line."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"{printable(error.problem)} in line {error.problem_mark.line + 1}"
    return printable(" ".join(str(error).split()))


class _SafeLoader(yaml.SafeLoader):
    """Load plain values, and the one Python expression of published files, a list of sizes."""

    # The reference implementation evaluates this text as Python; here it is only parsed.
    RANGES = re.compile(r"\[int\(x \* 0\.1 \* (\d{1,5})\) for x in range\((\d{1,3}), (\d{1,3})\)\]")

    # Detectron2 writes a few references (*name) into its config.yaml. Many of them, nested, could
    # stand for gigabytes.
    MAX_REFERENCES = 16

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.values = self.references = self.depth = 0

    def compose_node(self, parent: Any, index: Any) -> yaml.Node:
        is_reference = self.check_event(yaml.AliasEvent)
        self.references += is_reference
        self.values += 1
        for count, limit, what in (
            (self.references, self.MAX_REFERENCES, "references (*name)"),
            (self.values, MAX_VALUES, "keys and values"),
            (self.depth, MAX_DEPTH, "levels"),
        ):
            if count > limit:
                raise yaml.YAMLError(f"it holds more than {limit} {what}")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        if is_reference and node.end_mark is None:  # PyYAML sets it when a list or mapping ends
            raise yaml.YAMLError("a reference (*name) is inside of what it refers to")
        return node

    def construct_mapping(self, node: yaml.Node, deep: bool = False) -> dict:
        if isinstance(node, yaml.MappingNode):
            _refuse_two_values(node)
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        # PyYAML's constructors fail on a tag that does not fit its text, such as !!int "".
        except (ValueError, LookupError, AttributeError, TypeError, OverflowError) as error:
            raise _problem(str(error) or f"{node.value} is no {node.tag}", node) from error

    def construct_number(self, node: yaml.Node) -> int | float:
        text = self.construct_scalar(node)
        if len(text) > MAX_NUMBER_CHARACTERS:
            raise _problem(f"a number has more than {MAX_NUMBER_CHARACTERS} characters", node)
        if ":" in text:
            raise _problem(
                f"{text} would be a number to the base of 60: write the number, or quotes around "
                "a text",
                node,
            )
        is_int = node.tag == "tag:yaml.org,2002:int"
        return self.construct_yaml_int(node) if is_int else self.construct_yaml_float(node)

    def construct_ranges(self, node: yaml.Node) -> list[int]:
        items = self.construct_sequence(node) if isinstance(node, yaml.SequenceNode) else []
        text = items[0] if len(items) == 1 else ""
        match = self.RANGES.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            return self.construct_undefined(node)
        size, start, stop = map(int, match.groups())
        return [int(x * 0.1 * size) for x in range(start, stop)]


for _tag in ("int", "float"):
    _SafeLoader.add_constructor(f"tag:yaml.org,2002:{_tag}", _SafeLoader.construct_number)
_SafeLoader.add_constructor(
    "tag:yaml.org,2002:python/object/apply:eval", _SafeLoader.construct_ranges
)


def _problem(text: str, node: yaml.Node) -> ConstructorError:
    return ConstructorError(None, None, text, node.start_mark)


def _refuse_two_values(node: yaml.MappingNode) -> None:
    """Refuse a key that occurs twice with different values; a published file repeats one."""
    known: dict[str, yaml.Node] = {}
    for key, value in node.value:
        if isinstance(key, yaml.ScalarNode):
            earlier = known.setdefault(key.value, value)
            if earlier is not value and not _is_same(earlier, value):
                raise _problem(f"the key {key.value} stands twice with different values", key)


def _is_same(one: Any, other: Any) -> bool:
    """Return whether two nodes, or their contents, are equal."""
    if isinstance(one, yaml.Node) and isinstance(other, yaml.Node):
        return one.tag == other.tag and _is_same(one.value, other.value)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_is_same, one, other))
    return one == other
