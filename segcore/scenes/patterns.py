"""What things look like: colours, shapes, textures and grounds as functions of coordinates.

Everything is elementwise arithmetic on float32 arrays, which every machine rounds alike; there
is no library of drawing routines below whose next version would draw another data set.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Field = np.ndarray  # (height, width), float32

# Hue in degrees, saturation, value: what the word means on average; every object varies it.
COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (357, 0.85, 0.85),
    "orange": (28, 0.90, 0.95),
    "yellow": (54, 0.85, 0.95),
    "green": (130, 0.75, 0.70),
    "blue": (218, 0.80, 0.85),
    "purple": (283, 0.65, 0.75),
}


# Shapes: u points right and v down, in units of the radius of the disc that has the same area.


def _circle(u: Field, v: Field) -> Field:
    return np.sqrt(u * u + v * v)


def _square(u: Field, v: Field) -> Field:
    return np.maximum(np.abs(u), np.abs(v)) / 0.8862


def _triangle(u: Field, v: Field) -> Field:
    return np.maximum(v, np.abs(u) * 0.8660 - v * 0.5) / 0.7776


def _ball(level: Field) -> Field:
    return 1 - level * level


def _plate(level: Field) -> Field:
    return np.minimum((1 - level) * 3, 0.6)


def _pyramid(level: Field) -> Field:
    return 1 - level


@dataclass(frozen=True)
class Shape:
    """An outline, and how the body rises inside it, which decides how it is shaded.

    level: grows from 0 at the centre and is 1 on the outline.
    height: as a function of the level.
    """

    level: Callable[[Field, Field], Field]
    height: Callable[[Field], Field]


SHAPES: dict[str, Shape] = {
    "circle": Shape(_circle, _ball),
    "square": Shape(_square, _plate),
    "triangle": Shape(_triangle, _pyramid),
}


# Textures: the share of the second colour, 0 to 1. s and t turn with the object and count periods.


def _fraction(x: Field) -> Field:
    return x - np.floor(x)


def _triangle_wave(x: Field) -> Field:
    """Goes from 0 at whole numbers to 1 halfway between them."""
    return 1 - np.abs(2 * _fraction(x) - 1)


def _plain(s: Field, t: Field) -> Field:
    return np.zeros_like(s)


def _striped(s: Field, t: Field) -> Field:
    return (_fraction(t) < 0.5).astype(np.float32)


def _dotted(s: Field, t: Field) -> Field:
    staggered = s + 0.5 * (np.floor(t) % 2)
    across, along = _fraction(staggered) - 0.5, _fraction(t) - 0.5
    return (across * across + along * along < 0.35**2).astype(np.float32)


@dataclass(frozen=True)
class Texture:
    """A pattern of an object's own colour and a second one.

    pattern: the share of the second colour at s and t.
    brightness: of the second colour, which is nearly without hue.
    """

    pattern: Callable[[Field, Field], Field]
    brightness: float


TEXTURES: dict[str, Texture] = {
    "plain": Texture(_plain, 0.5),
    "striped": Texture(_striped, 0.95),
    "dotted": Texture(_dotted, 0.10),
}


# Grounds: how far a point lies between the ground's dark and its light colour, 0 to 1. x points
# right and y down; the picture is the unit square.


class Noise:
    """Smooth random hills over the plane.

    Args:
        lattice: (n, n) of numbers in [0, 1]; the hills repeat every n cells.
    """

    def __init__(self, lattice: np.ndarray) -> None:
        self._lattice = lattice

    def __call__(self, x: Field, y: Field) -> Field:
        """Values in [0, 1] at ``x`` (1, width) and ``y`` (height, 1), in cells of the lattice."""
        n = len(self._lattice)
        row, down = np.floor(y[:, 0]).astype(np.int64), _ease(_fraction(y))
        column, right = np.floor(x[0]).astype(np.int64), _ease(_fraction(x))
        top, bottom = self._lattice[row % n], self._lattice[(row + 1) % n]
        rows = top + (bottom - top) * down
        left, other = rows[:, column % n], rows[:, (column + 1) % n]
        return left + (other - left) * right


def _ease(x: Field) -> Field:
    return x * x * (3 - 2 * x)


def _grass(x: Field, y: Field, noise: Noise) -> Field:
    blades = noise(x * 55, y * 16)
    return 0.65 * blades + 0.35 * noise(x * 6, y * 6 + 9)


def _sand(x: Field, y: Field, noise: Noise) -> Field:
    ripples = _triangle_wave(y * 9 + 1.6 * noise(x * 3, y * 3))
    return 0.35 * ripples + 0.65 * noise(x * 48, y * 48 + 5)


def _water(x: Field, y: Field, noise: Noise) -> Field:
    swell = _triangle_wave(y * 7 + 2.2 * noise(x * 4, y * 5))
    return 0.75 * swell * swell + 0.25 * noise(x * 9, y * 28 + 7)


def _brick(x: Field, y: Field, noise: Noise) -> Field:
    row = np.floor(y * 9)
    shifted = x * 4.5 + 0.5 * (row % 2)
    mortar = (_fraction(y * 9) < 0.16) | (_fraction(shifted) < 0.08)
    tone = _fraction(np.floor(shifted) * 0.37 + row * 0.61)
    return np.where(mortar, np.float32(1), 0.45 * tone * noise(x * 40, y * 40))


def _wood(x: Field, y: Field, noise: Noise) -> Field:
    plank = np.floor(x * 5)
    gap = _fraction(x * 5) < 0.06
    figure = noise(x * 38 + plank * 7, y * 5)
    return np.where(gap, np.float32(0), 0.25 + 0.5 * figure + 0.25 * _fraction(plank * 0.618))


def _stone(x: Field, y: Field, noise: Noise) -> Field:
    blotches = 0.6 * noise(x * 7, y * 7) + 0.4 * noise(x * 15, y * 15 + 3)
    return 0.7 * blotches + 0.3 * noise(x * 45, y * 45 + 11)


@dataclass(frozen=True)
class Ground:
    """A pattern between two colours, each hue in degrees, saturation, value."""

    pattern: Callable[[Field, Field, Noise], Field]
    dark: tuple[float, float, float]
    light: tuple[float, float, float]


GROUNDS: dict[str, Ground] = {
    "grass": Ground(_grass, (105, 0.75, 0.22), (88, 0.60, 0.68)),
    "sand": Ground(_sand, (36, 0.45, 0.62), (44, 0.30, 0.95)),
    "water": Ground(_water, (208, 0.75, 0.35), (192, 0.45, 0.85)),
    "brick": Ground(_brick, (12, 0.65, 0.48), (28, 0.14, 0.80)),
    "wood": Ground(_wood, (24, 0.70, 0.24), (30, 0.55, 0.72)),
    "stone": Ground(_stone, (220, 0.08, 0.28), (45, 0.05, 0.82)),
}
