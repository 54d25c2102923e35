"""Label maps as 16-bit PNG files, which training and evaluation read, too."""

from pathlib import Path

import numpy as np

from catrank.exports.files import save_image
from segcore.errors import UserError, printable

NO_LABEL = 65535  # of pixels without a class


def write_label_png(labels: np.ndarray, path: Path) -> None:
    """Write class ids or segment ids.

    Args:
        labels: (H, W) integers, -1 (no class, stored as 65535) to 65535.
        path: of the file.

    Raises:
        UserError: a label does not fit 16 bits, or the file cannot be written.
    """
    if labels.size and not -1 <= labels.min() <= labels.max() <= NO_LABEL:
        raise UserError(
            f"{printable(path)}: labels {labels.min()} to {labels.max()} do not fit 16 bits"
        )
    save_image(labels.astype(np.uint16), path)
