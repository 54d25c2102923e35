"""Read untrusted XML as a tree: limited in size and depth, without document types.

Entities, by which a small file stands for gigabytes or for another file, need a document type.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn
from xml.parsers import expat

from segcore.errors import UserError, printable

MAX_BYTES = 512 * 2**20
MAX_DEPTH = 50
MAX_ELEMENTS = 2_000_000


@dataclass(slots=True)
class Element:
    """An element of XML.

    Attributes:
        tag: its name.
        attributes: by name.
        children: the elements in it.
        line: of the file, from 1.
        text: the characters in it, without those of its children.
    """

    tag: str
    attributes: dict[str, str]
    line: int
    children: list["Element"] = field(default_factory=list)
    text: str = ""

    def find(self, tag: str) -> Iterator["Element"]:
        """Yield the elements below with this tag."""
        for child in self.children:
            if child.tag == tag:
                yield child
            yield from child.find(tag)

    def text_of(self, tag: str) -> str:
        """Return the text of the first child with this tag; "" if there is none."""
        return next((child.text.strip() for child in self.children if child.tag == tag), "")


def read_xml(path: Path) -> Element:
    """Return the root of an XML file.

    Raises:
        UserError: it cannot be read, is too large or too deep, has a document type, or is no XML.
    """
    root = Element("", {}, 0)
    open_elements = [root]
    number = 0
    parser = expat.ParserCreate()
    parser.buffer_text = True

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal number
        number += 1
        element = Element(tag, attributes, parser.CurrentLineNumber)
        open_elements[-1].children.append(element)
        open_elements.append(element)
        if len(open_elements) > MAX_DEPTH:
            raise UserError(f"{printable(path)} is nested too deep: more than {MAX_DEPTH} levels")
        if number > MAX_ELEMENTS:
            raise UserError(f"{printable(path)} has more than {MAX_ELEMENTS} elements: divide it")

    def end(_: str) -> None:
        open_elements.pop()

    def add_text(text: str) -> None:
        open_elements[-1].text += text

    def refuse(*_: object) -> NoReturn:
        raise UserError(
            f"{printable(path)} has a document type (<!DOCTYPE), which may stand for other files: "
            "remove it"
        )

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = add_text, refuse
    try:
        if path.stat().st_size > MAX_BYTES or not path.is_file():
            raise UserError(f"{printable(path)} is no XML file of at most {MAX_BYTES >> 20} MiB")
        with path.open("rb") as file:
            parser.ParseFile(file)
    except OSError as error:
        raise UserError(f"cannot read {printable(path)}: {error.strerror}") from error
    except (expat.ExpatError, LookupError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{printable(path)} is not valid XML: {printable(error)}") from error
    return root.children[0]
