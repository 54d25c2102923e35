"""Waves over the plane: elementwise arithmetic on float32 arrays, which every machine rounds alike.

There is no library of drawing routines below whose next version would draw another data set.
"""

import numpy as np

Field = np.ndarray  # (height, width), float32


def fraction(x: Field) -> Field:
    """What is left of ``x`` above the whole number below it, 0 to 1."""
    return x - np.floor(x)


def triangle_wave(x: Field) -> Field:
    """Goes from 0 at whole numbers to 1 halfway between them."""
    return 1 - np.abs(2 * fraction(x) - 1)
