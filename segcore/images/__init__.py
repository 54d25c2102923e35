"""Read images and label maps; a file that cannot be read is one error message that names it.

``reading``  images, headers, label maps
``encoded``  images in memory
``folders``  the images of a folder
``pixels``   conversion of decoded images
``label_colors``  label maps of colours
``png``, ``tiff``, ``netpbm``, ``jpeg2000``  details of formats that Pillow leaves out
"""

from .encoded import decode_image
from .label_colors import pack_colors, read_class_ids, read_label_map, record_class_ids
from .reading import (
    HAS_AVIF,
    MAX_PIXELS,
    Header,
    check_labels,
    from_first_label,
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
    "decode_image",
    "from_first_label",
    "pack_colors",
    "read_class_ids",
    "read_header",
    "read_image",
    "read_label_map",
    "read_labels",
    "read_stored_colours",
    "record_class_ids",
]
