"""The kinds of findings of a check."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """A kind of finding: its heading, and whether it is an error, which would spoil training."""

    title: str
    is_error: bool


KINDS = {
    "no_pairs": Kind("no images with label maps", True),
    "no_label_map": Kind("images without a label map", True),
    "no_picture": Kind("label maps without an image", True),
    "ambiguous": Kind("several files that differ in their endings only", True),
    "unreadable": Kind("files that cannot be read", True),
    "objects": Kind("segments or objects that cannot be read, or do not fit their lists", True),
    "lossy": Kind("label maps in a lossy format", True),
    "colours": Kind("label maps that hold colours instead of class ids", True),
    "size": Kind("label maps of another size than their image", True),
    "rotation": Kind("images that EXIF rotates, with label maps that are not rotated", True),
    "values": Kind("label values that are no class", True),
    "numbering": Kind("class ids that seem to be shifted", True),
    "shared": Kind("images that training and test have in common", True),
    "unlabelled": Kind("images without a label map, which are not used", False),
    "orientation": Kind("images that EXIF rotates or flips: check that the labels fit", False),
    "nearly_empty": Kind("label maps with hardly a labelled pixel", False),
    "duplicate": Kind("images that occur more than once", False),
    "absent": Kind("classes that never occur", False),
    "rare": Kind("classes that hardly occur", False),
}


@dataclass(frozen=True)
class Finding:
    """One finding of a check.

    Attributes:
        kind: a key of ``KINDS``.
        text: its description, with the names of the files.
        files: the files that it concerns.
    """

    kind: str
    text: str
    files: tuple[str, ...] = ()

    @property
    def is_error(self) -> bool:
        return KINDS[self.kind].is_error


def has_errors(findings: Iterable[Finding]) -> bool:
    """Return whether any finding is an error."""
    return any(finding.is_error for finding in findings)


def by_kind(findings: Iterable[Finding]) -> dict[str, list[Finding]]:
    """Group findings by kind, in the order of ``KINDS``: errors first."""
    groups: dict[str, list[Finding]] = {kind: [] for kind in KINDS}
    for finding in findings:
        groups[finding.kind].append(finding)
    return {kind: group for kind, group in groups.items() if group}
