"""Outlines and bodies of objects.

u points right and v down, in units of the radius of the disc that has the same area; no outline
reaches farther than 1.65 from the centre.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from segcore.scenes.fields import Field


def _circle(u: Field, v: Field) -> Field:
    return np.sqrt(u * u + v * v)


def _square(u: Field, v: Field) -> Field:
    return np.maximum(np.abs(u), np.abs(v)) / 0.8862


def _triangle(u: Field, v: Field) -> Field:
    return np.maximum(v, np.abs(u) * 0.8660 - v * 0.5) / 0.7776


def _diamond(u: Field, v: Field) -> Field:
    return np.abs(u) / 0.9908 + np.abs(v) / 1.5853


def _oval(u: Field, v: Field) -> Field:
    return _circle(u / 1.45, v * 1.45)


def _cross(u: Field, v: Field) -> Field:
    u, v = np.abs(u), np.abs(v)
    return np.minimum(np.maximum(3 * u, v), np.maximum(u, 3 * v)) / 1.1890


def _star(u: Field, v: Field) -> Field:
    """Five points: the plane is folded into the wedge between a tip and the notch beside it."""
    u, v = np.abs(u), -v
    for side in (1, -1):
        beyond = np.maximum(side * 0.8090 * u - 0.5878 * v, 0)
        u, v = u - 2 * side * 0.8090 * beyond, v + 2 * 0.5878 * beyond
    return (0.9800 * np.abs(u) + 0.4076 * v) / 0.6281


def _heart(u: Field, v: Field) -> Field:
    u, v = u / 1.1180, (0.5 - v) / 1.1180
    return _circle(u, 1.25 * v - np.sqrt(np.abs(u)))


def _ring(u: Field, v: Field) -> Field:
    return np.abs(_circle(u, v) - 1) * 4


def _crescent(u: Field, v: Field) -> Field:
    """A disc of which another one, on the right, takes a bite."""
    u = u - 0.308
    return np.maximum(_circle(u, v) / 1.3835, 2 - _circle(u - 0.82, v) / 1.1285)


def _drop(u: Field, v: Field) -> Field:
    """A disc and the two tangents that meet at a tip above it."""
    u, v = np.abs(u) / 0.9060, (0.38 - v) / 0.9060
    return np.where(v * 0.8660 > u * 0.5, u * 0.8660 + v * 0.5, _circle(u, v))


def _arrow(u: Field, v: Field) -> Field:
    """A head that points to the right, and a shaft."""
    head = np.maximum(0.35 - u, np.abs(v) * 0.8660 + (u - 0.35) * 0.5) / 0.6
    shaft = np.maximum(np.abs(u + 0.75) / 0.7, np.abs(v) / 0.53)
    return np.minimum(head, shaft)


def _ball(level: Field) -> Field:
    return 1 - level * level


def _plate(level: Field) -> Field:
    return np.minimum((1 - level) * 3, 0.6)


def _pyramid(level: Field) -> Field:
    return 1 - level


@dataclass(frozen=True)
class Shape:
    """An outline, and the height of the body inside it, which determines the shading.

    level: at most 1 inside, 1 on the outline, above 1 outside.
    height: as a function of the level.
    """

    level: Callable[[Field, Field], Field]
    height: Callable[[Field], Field]


SHAPES: dict[str, Shape] = {
    "circle": Shape(_circle, _ball),
    "square": Shape(_square, _plate),
    "triangle": Shape(_triangle, _pyramid),
    "diamond": Shape(_diamond, _pyramid),
    "oval": Shape(_oval, _ball),
    "cross": Shape(_cross, _plate),
    "star": Shape(_star, _pyramid),
    "heart": Shape(_heart, _ball),
    "ring": Shape(_ring, _ball),
    "crescent": Shape(_crescent, _plate),
    "drop": Shape(_drop, _ball),
    "arrow": Shape(_arrow, _plate),
}
