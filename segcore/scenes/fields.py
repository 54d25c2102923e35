"""Waves over the plane: elementwise arithmetic on float32 arrays, which every machine rounds alike.

No drawing library is used: its next version could render another data set.
"""

import numpy as np

Field = np.ndarray  # (height, width), float32


def fraction(x: Field) -> Field:
    """Return the fractional part of ``x``, 0 to 1."""
    return x - np.floor(x)


def triangle_wave(x: Field) -> Field:
    """Return a wave that rises from 0 at integers to 1 halfway between them."""
    return 1 - np.abs(2 * fraction(x) - 1)
