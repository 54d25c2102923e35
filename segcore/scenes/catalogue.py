"""The classes of Scenes, and which of them are held out from training."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from segcore.scenes.draws import Draws


@dataclass(frozen=True)
class SceneClass:
    """One class: an object (colour, texture and shape) or a ground (all three ``None``)."""

    id: int
    name: str
    seen: bool
    colour: str | None = None
    texture: str | None = None
    shape: str | None = None

    @property
    def is_object(self) -> bool:
        return self.shape is not None


@dataclass(frozen=True)
class Catalogue:
    """A vocabulary of every colour x texture x shape, followed by the grounds.

    ``num_unseen`` combinations are held out from training.
    """

    name: str
    colours: tuple[str, ...]
    textures: tuple[str, ...]
    shapes: tuple[str, ...]
    grounds: tuple[str, ...]
    num_unseen: int

    @cached_property
    def classes(self) -> tuple[SceneClass, ...]:
        """Return all classes by id: objects (shape changes fastest), then grounds."""
        sizes = (len(self.colours), len(self.textures), len(self.shapes))
        unseen = _hold_out(sizes, self.num_unseen)
        objects = [
            SceneClass(
                id=int(np.ravel_multi_index((c, t, s), sizes)),
                name=f"{colour} {texture} {shape}",
                seen=not unseen[c, t, s],
                colour=colour,
                texture=texture,
                shape=shape,
            )
            for c, colour in enumerate(self.colours)
            for t, texture in enumerate(self.textures)
            for s, shape in enumerate(self.shapes)
        ]
        grounds = [
            SceneClass(id=len(objects) + index, name=name, seen=True)
            for index, name in enumerate(self.grounds)
        ]
        return (*objects, *grounds)

    @cached_property
    def objects(self) -> tuple[SceneClass, ...]:
        return tuple(entry for entry in self.classes if entry.is_object)

    @cached_property
    def seen_objects(self) -> tuple[SceneClass, ...]:
        return tuple(entry for entry in self.objects if entry.seen)

    @cached_property
    def unseen_objects(self) -> tuple[SceneClass, ...]:
        return tuple(entry for entry in self.objects if not entry.seen)


def _hold_out(sizes: tuple[int, int, int], count: int) -> np.ndarray:
    """Choose ``count`` combinations, spread so that training contains all pairs of attributes.

    Greedy: each step takes the combination whose three pairs (colour and texture, colour and shape,
    texture and shape) have the smallest held-out fraction so far.

    Returns: (colours, textures, shapes) of bool.
    """
    held = np.zeros(sizes, dtype=bool)
    ties = Draws(0, "hold out", 0).order(held.size)
    for _ in range(count):
        fractions = np.stack(
            [np.broadcast_to(held.mean(axis=axis, keepdims=True), sizes) for axis in range(3)]
        )
        worst = np.where(held, np.inf, fractions.max(axis=0)).ravel()
        total = fractions.sum(axis=0).ravel()
        held.ravel()[np.lexsort((ties, total, worst))[0]] = True
    return held


SCENES_60 = Catalogue(
    name="scenes-60",
    colours=("red", "orange", "yellow", "green", "blue", "purple"),
    textures=("plain", "striped", "dotted"),
    shapes=("circle", "square", "triangle"),
    grounds=("grass", "sand", "water", "brick", "wood", "stone"),
    num_unseen=14,
)

SCENES_1K = Catalogue(
    name="scenes-1k",
    colours=(*SCENES_60.colours, "pink", "brown", "turquoise", "grey"),
    textures=(*SCENES_60.textures, "checked", "ringed", "netted", "zigzag", "halved", "quartered"),
    shapes=(
        *SCENES_60.shapes,
        *("diamond", "oval", "cross", "star", "heart", "ring", "crescent", "drop", "arrow"),
    ),
    grounds=(
        *SCENES_60.grounds,
        *("snow", "ice", "mud", "gravel", "cobbles", "pebbles", "asphalt", "concrete", "marble"),
        *("moss", "leaves", "hay", "lava", "clay", "tiles", "carpet", "cork", "rust", "slate"),
        *("bamboo", "parquet", "wicker", "linen", "denim", "wool", "corduroy", "velvet", "leather"),
        *("coal", "steel", "foam", "bark", "heather", "coral"),
    ),
    num_unseen=250,
)

CATALOGUES = {catalogue.name: catalogue for catalogue in (SCENES_60, SCENES_1K)}
