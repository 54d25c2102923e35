"""Check one image with its label map: both files, their sizes, and the label values."""

import hashlib
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from segcore.datasets.checking.findings import Finding
from segcore.datasets.checking.objects import paint_record
from segcore.errors import UserError
from segcore.images import Header, read_header, read_image, read_label_map

NEARLY_EMPTY = 0.01  # fraction of the pixels that have a class
FIRST_ROTATED = 5  # EXIF orientations from this one on swap width and height
MOST_VALUES = 20  # different wrong values that are counted in one label map


class Pair(NamedTuple):
    """An image and its label map: two paths; for segments and objects their PNG or JSON file, and
    the dataset dict that lists them.

    ``first_label``, ``colors`` and ``void``, further stored values of pixels without a class, say
    how the label map is read.
    """

    image: str
    labels: str
    first_label: int = 0
    record: dict | None = None
    colors: bytes | None = None
    void: tuple[int, ...] = ()


@dataclass
class Examined:
    """The result of checking a pair; entries of a file that could not be read are None.

    Attributes:
        pair: the two files.
        size: (width, height) of the upright image.
        digest: of the image's pixels; equal images have equal ones.
        pixels: number of pixels by class id, of the classes that occur.
        ignored: number of pixels with the ignore label.
        wrong: number of pixels by label value that is no class, of the most frequent values.
        findings: those of the pair.
    """

    pair: Pair
    size: tuple[int, int] | None = None
    digest: str | None = None
    pixels: dict[int, int] | None = None
    ignored: int = 0
    wrong: dict[int, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def note(self, kind: str, text: str, *files: str) -> None:
        self.findings.append(Finding(kind, text, files or self.pair[:2]))


def examine(pair: Pair, num_classes: int, ignore_label: int) -> Examined:
    """Read both files of a pair and check them."""
    result = Examined(pair)
    header, image_size = _examine_image(result)
    labels = _read_label_map(result, ignore_label)
    if labels is None:
        return result
    _count(result, labels, num_classes, ignore_label)
    if image_size is not None:
        _compare_sizes(result, labels.shape[::-1], header)
    return result


def _examine_image(result: Examined) -> tuple[Header | None, tuple[int, int] | None]:
    try:
        header = read_header(result.pair.image)
        image = read_image(result.pair.image)
    except UserError as error:
        result.note("unreadable", str(error), result.pair.image)
        return None, None
    result.size = image.shape[1::-1]
    shape = repr(image.shape).encode()
    result.digest = hashlib.blake2b(shape + image.tobytes(), digest_size=16).hexdigest()
    return header, result.size


def read_pair_labels(pair: Pair, ignore_label: int) -> np.ndarray:
    """Return the label map of a pair, (H, W) integers.

    Raises:
        UserError: a file cannot be read, or does not agree with the dataset dict.
    """
    if pair.record is not None:
        return paint_record(pair.record, ignore_label)
    labels = read_label_map(pair.labels, ignore_label, pair.first_label, pair.colors)
    without = np.isin(labels, [value - pair.first_label for value in pair.void])
    return np.where(without, ignore_label, labels) if pair.void else labels


def _read_label_map(result: Examined, ignore_label: int) -> np.ndarray | None:
    path, described = result.pair.labels, result.pair.record is not None
    try:
        if described:
            return read_pair_labels(result.pair, ignore_label)
        header = read_header(path)
        if header.lossy:
            result.note("lossy", f"{path} is {header.format}: store label maps as PNG", path)
            return None
        if not header.is_label_map and result.pair.colors is None:
            text = (
                f"{path} is of mode {header.mode}: store one integer a pixel{_grey_hint(path)}, or "
                "give every class its colour in the description"
            )
            result.note("colours", text, path)
            return None
        return read_pair_labels(result.pair, ignore_label)
    except UserError as error:
        result.note("objects" if described else "unreadable", str(error), path)
        return None


def _grey_hint(path: str) -> str:
    image = read_image(path)
    grey = (image == image[:, :, :1]).all()
    return " (its three channels are equal: keep one of them)" if grey else ""


def _count(result: Examined, labels: np.ndarray, num_classes: int, ignore_label: int) -> None:
    values, pixels = np.unique(labels, return_counts=True)
    known = (values >= 0) & (values < num_classes) & (values != ignore_label)
    wrong = ~known & (values != ignore_label)
    result.pixels = dict(zip(values[known].tolist(), pixels[known].tolist(), strict=True))
    result.ignored = int(pixels[values == ignore_label].sum())
    if wrong.any():
        most = np.argsort(-pixels[wrong], kind="stable")[:MOST_VALUES]
        rows = zip(values[wrong][most].tolist(), pixels[wrong][most].tolist(), strict=True)
        result.wrong = dict(rows)
        shown = ", ".join(f"{v} ({n} pixels)" for v, n in list(result.wrong.items())[:5])
        more = f" and {wrong.sum() - 5} other values" if wrong.sum() > 5 else ""
        text = (
            f"{result.pair.labels} holds {shown}{more}: classes are 0..{num_classes - 1}, "
            f"{ignore_label} is ignored"
        )
        result.note("values", text, result.pair.labels)
    labelled = sum(result.pixels.values()) / labels.size
    if labelled < NEARLY_EMPTY and not wrong.any():
        text = f"{result.pair.labels}: {labelled:.2%} of its pixels have a class"
        result.note("nearly_empty", text, result.pair.labels)


def _compare_sizes(result: Examined, size: tuple[int, int], header: Header) -> None:
    """Compare the label map's ``size`` with that of the image, whose header is given."""
    image, labels, record = result.pair.image, result.pair.labels, result.pair.record
    if size != result.size:
        if header.orientation >= FIRST_ROTATED and size == (header.width, header.height):
            text = (
                f"EXIF rotates {image} by a quarter turn, but {labels} has the size before it: "
                "rotate the label map too"
            )
            result.note("rotation", text)
        else:
            text = f"{labels} is {_times(size)}, its image {image} is {_times(result.size)}"
            result.note("size", text)
    elif record is None and _may_be_rotated(header) and read_header(labels).orientation == 1:
        text = f"{image} has the EXIF orientation {header.orientation}, {labels} has none"
        result.note("orientation", text)


def _may_be_rotated(header: Header) -> bool:
    """Return whether labels of the same size may have another orientation than the image.

    Unequal sides that are swapped would show in the size.
    """
    shows = header.orientation >= FIRST_ROTATED and header.width != header.height
    return header.orientation != 1 and not shows


def _times(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
