"""Colours of objects, and patterns of a colour and a second one."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from segcore.scenes.fields import Field, fraction, triangle_wave

# Mean hue in degrees, saturation and value of each colour name; every object varies them.
COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (357, 0.85, 0.85),
    "orange": (28, 0.90, 0.95),
    "yellow": (54, 0.85, 0.95),
    "green": (130, 0.75, 0.70),
    "blue": (218, 0.80, 0.85),
    "purple": (283, 0.65, 0.75),
    "pink": (335, 0.42, 0.97),
    "brown": (22, 0.65, 0.40),
    "turquoise": (176, 0.70, 0.80),
    "grey": (210, 0.06, 0.58),
}


# Textures return the weight of the second colour, 0 to 1. s and t are coordinates in periods, which
# rotate with the object and start at its centre.


def _plain(s: Field, t: Field) -> Field:
    return np.zeros_like(s)


def _striped(s: Field, t: Field) -> Field:
    return _weight(fraction(t) < 0.5)


def _dotted(s: Field, t: Field) -> Field:
    staggered = s + 0.5 * (np.floor(t) % 2)
    across, along = fraction(staggered) - 0.5, fraction(t) - 0.5
    return _weight(across * across + along * along < 0.35**2)


def _checked(s: Field, t: Field) -> Field:
    return _weight((np.floor(s * 1.4) + np.floor(t * 1.4)) % 2 == 0)


def _ringed(s: Field, t: Field) -> Field:
    return _weight(fraction(np.sqrt(s * s + t * t) * 0.9) < 0.5)


def _netted(s: Field, t: Field) -> Field:
    return _weight((fraction(s) < 0.3) | (fraction(t) < 0.3))


def _zigzag(s: Field, t: Field) -> Field:
    return _weight(fraction((t + 0.7 * triangle_wave(s * 0.7)) * 0.8) < 0.5)


def _halved(s: Field, t: Field) -> Field:
    return _weight(t > 0)


def _quartered(s: Field, t: Field) -> Field:
    return _weight((s > 0) == (t > 0))


def _weight(second: np.ndarray) -> Field:
    return second.astype(np.float32)


@dataclass(frozen=True)
class Texture:
    """A pattern of an object's colour and a second one.

    pattern: the weight of the second colour at s and t.
    brightness: of the second colour, which is nearly without hue.
    """

    pattern: Callable[[Field, Field], Field]
    brightness: float


TEXTURES: dict[str, Texture] = {
    "plain": Texture(_plain, 0.5),
    "striped": Texture(_striped, 0.95),
    "dotted": Texture(_dotted, 0.10),
    "checked": Texture(_checked, 0.95),
    "ringed": Texture(_ringed, 0.10),
    "netted": Texture(_netted, 0.95),
    "zigzag": Texture(_zigzag, 0.10),
    "halved": Texture(_halved, 0.95),
    "quartered": Texture(_quartered, 0.10),
}
