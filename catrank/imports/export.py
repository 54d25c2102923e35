"""What the readers of exports return."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segcore.outlines import Outline
from segcore.vocabulary import Color

# How label maps and objects come from an image.
OBJECTS, PIXELS, SEGMENTS, TRACKS = "objects", "pixels", "segments", "tracks"


@dataclass(frozen=True)
class Shape:
    """A drawn shape.

    Attributes:
        label: name of its class.
        outline: sound, in pixels of the labelled image.
        is_crowd: whether it stands for an uncounted number of objects.
        group: shapes with the same group and label are one object; None: an object of its own.
    """

    label: str
    outline: Outline
    is_crowd: bool = False
    group: int | str | None = None


@dataclass(frozen=True)
class LabelledImage:
    """An image of an export with its labels, in one of three forms.

    Attributes:
        name: relative path below the folder of images, with slashes.
        path: of the file.
        size: (height, width) of the labelled image; None if the export does not say.
        shapes: in the order in which they are painted, the last on top.
        mask: an image whose values or colours are classes, instead of shapes.
        record: a dataset dict with ``segments_info``, instead of shapes.
        split: "train" or "val" if the export says so.
    """

    name: str
    path: Path
    size: tuple[int, int] | None = None
    shapes: tuple[Shape, ...] = ()
    mask: Path | None = None
    record: Mapping[str, Any] | None = None
    split: str | None = None


@dataclass(frozen=True)
class ExportClass:
    """A class of an export.

    Attributes:
        name: as in the export.
        color: RGB; None if the export gives none.
        is_thing: whether it has countable objects.
        value: the integer or the colour in masks.
    """

    name: str
    color: Color | None = None
    is_thing: bool = True
    value: int | Color | None = None


@dataclass(frozen=True)
class Export:
    """A read export.

    Attributes:
        format: a key of :data:`catrank.imports.reading.FORMATS`.
        kind: ``OBJECTS``, ``PIXELS``, ``SEGMENTS`` or ``TRACKS``.
        classes: in the order of the export, or by name if it has none.
        images: those that are labelled; empty for ``TRACKS``.
        notes: what was left out, for the user.
        source: the file or folder.
        image_dir: of the frames of ``TRACKS``.
    """

    format: str
    kind: str
    classes: tuple[ExportClass, ...]
    images: tuple[LabelledImage, ...]
    source: Path
    notes: tuple[str, ...] = ()
    image_dir: Path | None = None


@dataclass
class Notes:
    """Counts of what a reader leaves out, with the first example of each."""

    counts: dict[str, tuple[int, str]] = field(default_factory=dict)

    def add(self, what: str, example: object) -> None:
        number, first = self.counts.get(what, (0, str(example)))
        self.counts[what] = number + 1, first

    def lines(self) -> tuple[str, ...]:
        return tuple(
            f"{number} {what}, such as {first}" for what, (number, first) in self.counts.items()
        )
