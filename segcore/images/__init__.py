"""Images and label maps: read as they are stored, or refused by name."""

from .reading import (
    HAS_AVIF,
    MAX_PIXELS,
    Header,
    check_labels,
    from_first_label,
    read_class_ids,
    read_header,
    read_image,
    read_labels,
    read_stored_colours,
)

__all__ = [
    "HAS_AVIF",
    "MAX_PIXELS",
    "Header",
    "check_labels",
    "from_first_label",
    "read_class_ids",
    "read_header",
    "read_image",
    "read_labels",
    "read_stored_colours",
]
