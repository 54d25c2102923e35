"""Textures of the ground.

A pattern returns the position of a point between the ground's dark and its light colour, 0 to 1. x
points right, (1, width), and y down, (height, 1); the image is the unit square.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from segcore.scenes.fields import Field, fraction, triangle_wave


class Noise:
    """Smooth random hills over the plane.

    Args:
        lattice: (n, n) of numbers in [0, 1]; the hills repeat every n cells.
    """

    def __init__(self, lattice: np.ndarray) -> None:
        self._lattice = lattice

    def __call__(self, x: Field, y: Field) -> Field:
        """Return values in [0, 1] at ``x`` (1, width) and ``y`` (height, 1), in lattice cells."""
        n = len(self._lattice)
        row, down = np.floor(y[:, 0]).astype(np.int64), _ease(fraction(y))
        column, right = np.floor(x[0]).astype(np.int64), _ease(fraction(x))
        top, bottom = self._lattice[row % n], self._lattice[(row + 1) % n]
        rows = top + (bottom - top) * down
        left, other = rows[:, column % n], rows[:, (column + 1) % n]
        return left + (other - left) * right

    def pebble(self, x: Field, y: Field) -> Field:
        """Return the squared distance to the nearest of random points, one in each cell."""
        n = len(self._lattice)
        nearest = np.full(np.broadcast_shapes(x.shape, y.shape), np.inf, dtype=np.float32)
        for row in (np.floor(y) + step for step in (-1, 0, 1)):
            for column in (np.floor(x) + step for step in (-1, 0, 1)):
                down, right = row.astype(np.int64) % n, column.astype(np.int64) % n
                aside = column + self._lattice[down, right] - x
                along = row + self._lattice[down, (right + n // 2) % n] - y
                np.minimum(nearest, aside * aside + along * along, out=nearest)
        return nearest


def _ease(x: Field) -> Field:
    return x * x * (3 - 2 * x)


Pattern = Callable[[Field, Field, Noise], Field]


def _grass(x: Field, y: Field, noise: Noise) -> Field:
    blades = noise(x * 55, y * 16)
    return 0.65 * blades + 0.35 * noise(x * 6, y * 6 + 9)


def _sand(x: Field, y: Field, noise: Noise) -> Field:
    ripples = triangle_wave(y * 9 + 1.6 * noise(x * 3, y * 3))
    return 0.35 * ripples + 0.65 * noise(x * 48, y * 48 + 5)


def _water(x: Field, y: Field, noise: Noise) -> Field:
    swell = triangle_wave(y * 7 + 2.2 * noise(x * 4, y * 5))
    return 0.75 * swell * swell + 0.25 * noise(x * 9, y * 28 + 7)


def _brick(x: Field, y: Field, noise: Noise) -> Field:
    row = np.floor(y * 9)
    shifted = x * 4.5 + 0.5 * (row % 2)
    mortar = (fraction(y * 9) < 0.16) | (fraction(shifted) < 0.08)
    tone = fraction(np.floor(shifted) * 0.37 + row * 0.61)
    return np.where(mortar, np.float32(1), 0.45 * tone * noise(x * 40, y * 40))


def _wood(x: Field, y: Field, noise: Noise) -> Field:
    plank = np.floor(x * 5)
    gap = fraction(x * 5) < 0.06
    figure = noise(x * 38 + plank * 7, y * 5)
    return np.where(gap, np.float32(0), 0.25 + 0.5 * figure + 0.25 * fraction(plank * 0.618))


def _stone(x: Field, y: Field, noise: Noise) -> Field:
    blotches = 0.6 * noise(x * 7, y * 7) + 0.4 * noise(x * 15, y * 15 + 3)
    return 0.7 * blotches + 0.3 * noise(x * 45, y * 45 + 11)


# Families of patterns; numbers are counts across the image.


def _fibres(across: float, down: float) -> Pattern:
    """Return a pattern of streaks, long where the count is low."""
    return lambda x, y, noise: 0.75 * noise(x * across, y * down) + 0.25 * noise(x * 5, y * 5 + 9)


def _blotches(count: float, grain: float) -> Pattern:
    """Return a pattern of soft spots; ``grain`` is the weight of fine noise, 0 to 1."""
    return lambda x, y, noise: (
        (1 - grain) * noise(x * count, y * count) + grain * noise(x * 50, y * 50 + 11)
    )


def _veins(count: float, width: float) -> Pattern:
    """Return a pattern of thin winding light lines."""
    return lambda x, y, noise: np.maximum(
        1 - np.abs(noise(x * count, y * count) - 0.5) / width, 0.25 * noise(x * 24, y * 24 + 5)
    )


def _pebbles(count: float) -> Pattern:
    """Return a pattern of light lumps with dark gaps."""
    return lambda x, y, noise: np.maximum(1 - 1.4 * noise.pebble(x * count, y * count), 0)


def _ribs(across: float, down: float) -> Pattern:
    """Return a pattern of regular waves in one direction."""
    return lambda x, y, noise: (
        0.8 * triangle_wave(x * across + y * down) + 0.2 * noise(x * 40, y * 40)
    )


def _tiles(across: float, down: float, gap: float) -> Pattern:
    """Return a pattern of rectangles of slightly different tone, with dark joints."""

    def pattern(x: Field, y: Field, noise: Noise) -> Field:
        tone = fraction(np.floor(x * across) * 0.37 + np.floor(y * down) * 0.61)
        joint = (fraction(x * across) < gap) | (fraction(y * down) < gap)
        return np.where(joint, np.float32(0), 0.6 + 0.3 * tone + 0.1 * noise(x * 40, y * 40))

    return pattern


def _basket(count: float) -> Pattern:
    """Return a pattern of strands that pass over and under each other."""

    def pattern(x: Field, y: Field, noise: Noise) -> Field:
        over = (np.floor(x * count) + np.floor(y * count)) % 2 == 0
        strands = np.where(over, triangle_wave(y * count), triangle_wave(x * count))
        return 0.2 + 0.65 * strands + 0.15 * noise(x * 45, y * 45)

    return pattern


@dataclass(frozen=True)
class Ground:
    """A pattern between two colours, each hue in degrees, saturation, value."""

    pattern: Pattern
    dark: tuple[float, float, float]
    light: tuple[float, float, float]


GROUNDS: dict[str, Ground] = {
    "grass": Ground(_grass, (105, 0.75, 0.22), (88, 0.60, 0.68)),
    "sand": Ground(_sand, (36, 0.45, 0.62), (44, 0.30, 0.95)),
    "water": Ground(_water, (208, 0.75, 0.35), (192, 0.45, 0.85)),
    "brick": Ground(_brick, (12, 0.65, 0.48), (28, 0.14, 0.80)),
    "wood": Ground(_wood, (24, 0.70, 0.24), (30, 0.55, 0.72)),
    "stone": Ground(_stone, (220, 0.08, 0.28), (45, 0.05, 0.82)),
    "snow": Ground(_blotches(5, 0.15), (212, 0.14, 0.80), (200, 0.02, 1.00)),
    "ice": Ground(_veins(6, 0.06), (195, 0.35, 0.75), (190, 0.08, 1.00)),
    "mud": Ground(_blotches(9, 0.2), (28, 0.60, 0.15), (32, 0.50, 0.42)),
    "gravel": Ground(_pebbles(24), (30, 0.08, 0.22), (40, 0.08, 0.72)),
    "cobbles": Ground(_pebbles(8), (215, 0.20, 0.16), (215, 0.12, 0.62)),
    "pebbles": Ground(_pebbles(14), (35, 0.35, 0.30), (38, 0.22, 0.88)),
    "asphalt": Ground(_blotches(40, 0.6), (230, 0.10, 0.10), (230, 0.05, 0.40)),
    "concrete": Ground(_blotches(4, 0.3), (80, 0.05, 0.58), (70, 0.04, 0.76)),
    "marble": Ground(_veins(4, 0.08), (30, 0.04, 0.95), (220, 0.15, 0.45)),
    "moss": Ground(_blotches(12, 0.35), (80, 0.80, 0.18), (72, 0.75, 0.55)),
    "leaves": Ground(_pebbles(11), (20, 0.80, 0.22), (36, 0.85, 0.80)),
    "hay": Ground(_fibres(14, 60), (44, 0.70, 0.45), (50, 0.55, 0.92)),
    "lava": Ground(_veins(5, 0.12), (10, 0.70, 0.12), (24, 0.95, 1.00)),
    "clay": Ground(_blotches(7, 0.1), (14, 0.60, 0.52), (18, 0.52, 0.78)),
    "tiles": Ground(_tiles(8, 8, 0.1), (200, 0.25, 0.40), (190, 0.10, 0.98)),
    "carpet": Ground(_ribs(24, 24), (345, 0.80, 0.28), (350, 0.70, 0.58)),
    "cork": Ground(_blotches(26, 0.4), (26, 0.60, 0.40), (32, 0.45, 0.82)),
    "rust": Ground(_blotches(10, 0.25), (12, 0.85, 0.26), (24, 0.85, 0.68)),
    "slate": Ground(_fibres(4, 22), (225, 0.30, 0.20), (215, 0.22, 0.50)),
    "bamboo": Ground(_tiles(13, 3.5, 0.16), (75, 0.60, 0.30), (64, 0.50, 0.80)),
    "parquet": Ground(_basket(6), (22, 0.75, 0.25), (28, 0.60, 0.66)),
    "wicker": Ground(_basket(14), (30, 0.65, 0.25), (38, 0.45, 0.85)),
    "linen": Ground(_basket(28), (50, 0.20, 0.68), (50, 0.10, 0.95)),
    "denim": Ground(_ribs(28, -28), (222, 0.70, 0.28), (215, 0.45, 0.62)),
    "wool": Ground(_ribs(4, 14), (40, 0.22, 0.62), (44, 0.12, 0.96)),
    "corduroy": Ground(_ribs(16, 0), (150, 0.55, 0.16), (145, 0.45, 0.45)),
    "velvet": Ground(_blotches(3, 0.06), (290, 0.75, 0.18), (285, 0.60, 0.50)),
    "leather": Ground(_pebbles(32), (12, 0.70, 0.16), (16, 0.62, 0.42)),
    "coal": Ground(_pebbles(12), (250, 0.15, 0.04), (240, 0.08, 0.34)),
    "steel": Ground(_fibres(3, 62), (210, 0.16, 0.48), (205, 0.06, 0.86)),
    "foam": Ground(_pebbles(18), (185, 0.40, 0.66), (180, 0.05, 1.00)),
    "bark": Ground(_fibres(26, 5), (26, 0.45, 0.12), (30, 0.32, 0.50)),
    "heather": Ground(_fibres(36, 30), (110, 0.45, 0.24), (300, 0.42, 0.72)),
    "coral": Ground(_veins(9, 0.2), (340, 0.65, 0.50), (16, 0.45, 1.00)),
}
