"""Reading the yaml of configs: nothing in it is executed, and reading time is bounded.

The limits are far from what configs hold. Beyond them, and where PyYAML stumbles over a value, an
error names the file.
"""

import re
from collections.abc import Hashable
from typing import Any, TextIO

import yaml
from yaml.constructor import ConstructorError

MAX_CHARACTERS = 256 << 10
MAX_VALUES = 20_000
MAX_DEPTH = 40
MAX_REFERENCES = 16  # *name; many of them, nested, could stand for gigabytes
MAX_NUMBER_CHARACTERS = 64
_RANGE_LIST = re.compile(
    r"\[\s*int\(\s*x\s*\*\s*0\.1\s*\*\s*(?P<size>\d{1,5})\s*\)"
    r"\s*for\s+x\s+in\s+range\(\s*(?P<start>\d{1,3})\s*,\s*(?P<stop>\d{1,3})\s*\)\s*\]"
)


class _PlainLoader(yaml.SafeLoader):
    """Plain yaml within the limits."""

    def __init__(self, text: str, name: str) -> None:
        super().__init__(text)
        self.name = name  # for messages
        self.values = self.references = self.depth = 0

    def compose_node(self, parent: Any, index: Any) -> yaml.Node:
        is_reference = self.check_event(yaml.AliasEvent)
        self.references += is_reference
        self.values += 1
        for count, limit, what in (
            (self.references, MAX_REFERENCES, "references (*name)"),
            (self.values, MAX_VALUES, "keys and values"),
            (self.depth, MAX_DEPTH, "levels"),
        ):
            if count > limit:
                raise ValueError(f"it holds more than {limit} {what}")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        if is_reference and node.end_mark is None:  # set where a list or mapping ends
            raise ValueError("a reference (*name) is inside of what it refers to")
        return node

    def construct_number(self, node: yaml.Node) -> int | float:
        if len(self.construct_scalar(node)) > MAX_NUMBER_CHARACTERS:
            raise ValueError(f"a number has more than {MAX_NUMBER_CHARACTERS} characters")
        is_int = node.tag == "tag:yaml.org,2002:int"
        return self.construct_yaml_int(node) if is_int else self.construct_yaml_float(node)


class _ConfigLoader(_PlainLoader):
    """Also the one Python tag of published configs: a list of scaled lengths."""

    def construct_lengths(self, node: yaml.Node) -> list[int]:
        """Read ``[int(x * 0.1 * S) for x in range(a, b)]`` without evaluating anything."""
        items = self.construct_sequence(node) if isinstance(node, yaml.SequenceNode) else []
        match = _RANGE_LIST.fullmatch(str(items[0]).strip()) if len(items) == 1 else None
        if match is None:
            raise ConstructorError(
                None,
                None,
                "a Python expression is not evaluated here (only a list of the form "
                "[int(x * 0.1 * 640) for x in range(5, 21)] is understood): write its value "
                "instead",
                node.start_mark,
            )
        size, start, stop = (int(match[group]) for group in ("size", "start", "stop"))
        return [int(x * 0.1 * size) for x in range(start, stop)]


for _tag in ("int", "float"):
    _PlainLoader.add_constructor(f"tag:yaml.org,2002:{_tag}", _PlainLoader.construct_number)
_ConfigLoader.add_constructor(
    "tag:yaml.org,2002:python/object/apply:eval", _ConfigLoader.construct_lengths
)


def read_yaml(file: TextIO, name: str, *, lengths: bool) -> dict[Hashable, Any]:
    """Return the keys and values of a file.

    Args:
        file: opened as text.
        name: for messages.
        lengths: also understand the list-of-lengths tag of published files.

    Raises:
        yaml.YAMLError: it is not yaml, or has another Python tag.
        ValueError: it holds no keys, exceeds a limit, or has an invalid value.
    """
    try:
        text = file.read(MAX_CHARACTERS + 1)
        if len(text) > MAX_CHARACTERS:
            raise ValueError(f"it holds more than {MAX_CHARACTERS} characters")
        content = (_ConfigLoader if lengths else _PlainLoader)(text, name).get_single_data()
    # PyYAML's constructors stumble over texts that do not fit their tag, such as !!int "".
    except (ValueError, LookupError, AttributeError, TypeError, OverflowError) as error:
        raise ValueError(f"{name} is not a config: {error}") from error
    if not isinstance(content, dict | None):
        raise ValueError(f"{name} is not a config: it holds no keys")
    return content or {}


def check_keys(content: dict[Hashable, Any], name: str) -> None:
    """Refuse keys that are not strings, also in groups.

    Raises:
        KeyError: names the file and the key.
    """
    for key, value in content.items():
        if not isinstance(key, str):
            raise KeyError(f"{name} sets {key!r}, but the keys of a config are texts")
        if isinstance(value, dict):
            check_keys(value, name)
