"""Plan the content of an image, which ``render`` renders.

A plan has no pixels, so that the same scene can be rendered at any size, and with its objects moved
from frame to frame.
"""

import colorsys
import math
from dataclasses import dataclass, replace

import numpy as np

from segcore.scenes.catalogue import Catalogue, SceneClass
from segcore.scenes.draws import Draws
from segcore.scenes.grounds import GROUNDS
from segcore.scenes.shapes import SHAPES
from segcore.scenes.textures import COLOURS, TEXTURES

RGB = tuple[float, float, float]  # 0 to 1

FEWEST_OBJECTS, MOST_OBJECTS = 2, 5
SMALLEST_RADIUS, LARGEST_RADIUS = 0.14, 0.21
TILT = 0.4  # radians: largest rotation of objects, and of their textures
LEAST_VISIBLE = 0.5  # at least this fraction of every object is visible
NUM_DEMO_UNSEEN = 6  # number of images of the split "demo" with an unseen class

_SKETCH = 64  # width and height of the grid on which visibility is computed
_TRIES = 40


@dataclass(frozen=True)
class SceneObject:
    """One object. Lengths are in units of the image's side, angles in radians."""

    class_id: int
    colour: str
    texture: str
    shape: str
    centre: tuple[float, float]  # x to the right, y down
    radius: float  # of the disc that has the same area
    angle: float
    paint: tuple[RGB, RGB]  # the texture's first and second colour
    texture_angle: float  # relative to the object
    texture_period: float

    def local(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return points of the image in the object's axes, in units of its radius."""
        right, down = (x - self.centre[0]) / self.radius, (y - self.centre[1]) / self.radius
        return rotate(right, down, self.angle)

    def level(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return values below 1 inside the object, 1 on its outline, above 1 outside."""
        return SHAPES[self.shape].level(*self.local(x, y))

    def height(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the height of the object's surface above its outline."""
        return SHAPES[self.shape].height(self.level(x, y))


@dataclass(frozen=True)
class GroundPatch:
    """Ground that covers the image below the line y = ``height`` + ``slope`` x (roughly)."""

    class_id: int
    name: str
    height: float
    slope: float
    paint: tuple[RGB, RGB]  # dark and light


@dataclass(frozen=True)
class Light:
    """Brightness, its change across the image (x, y), and its tint."""

    brightness: float
    gradient: tuple[float, float]
    tint: RGB


@dataclass(frozen=True)
class Scene:
    """The complete plan of an image.

    ``patches`` and ``objects`` are in the order of depth, the farthest first; an object's index in
    ``objects``, from 1, is its instance number.
    """

    catalogue: Catalogue
    seed: int
    split: str
    index: int
    patches: tuple[GroundPatch, ...]
    objects: tuple[SceneObject, ...]
    light: Light
    blur: float  # weight of each of two neighbouring pixels, 0 to 0.25
    noise: float  # standard deviation, in units of white
    frame: int = 0  # of a video

    def draws(self, purpose: str, frame: int = 0) -> Draws:
        """Return the scene's random numbers for a purpose; ``frame`` if they differ by frame."""
        stream = f"{self.catalogue.name}/{self.split}/{purpose}"
        return Draws(self.seed, stream, self.index, frame)


def rotate(x: np.ndarray, y: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the coordinates in axes rotated by ``angle`` (clockwise on the screen)."""
    # Rounded, because the last bit of a cosine differs between mathematics libraries.
    cosine, sine = round(math.cos(angle), 6), round(math.sin(angle), 6)
    return cosine * x + sine * y, cosine * y - sine * x


def plan_scene(catalogue: Catalogue, seed: int, split: str, index: int) -> Scene:
    """Plan image ``index`` of ``split``: "train" (seen classes alone), "test" or "demo".

    The first six images of "demo" have an unseen class each, the others none.
    """
    draws = Draws(seed, f"{catalogue.name}/{split}/plan", index)
    patches = _plan_patches(draws, catalogue)
    classes = _choose_classes(draws, catalogue, split, index)
    objects = _arrange(draws, [_plan_object(draws, entry) for entry in classes], patches)
    return Scene(
        catalogue=catalogue,
        seed=seed,
        split=split,
        index=index,
        patches=patches,
        objects=objects,
        light=_plan_light(draws),
        blur=draws.uniform(0, 0.2),
        noise=draws.uniform(0.01, 0.04),
    )


def _choose_classes(draws: Draws, catalogue: Catalogue, split: str, index: int) -> list[SceneClass]:
    number = FEWEST_OBJECTS + draws.integer(MOST_OBJECTS - FEWEST_OBJECTS + 1)
    pool = catalogue.objects if split == "test" else catalogue.seen_objects
    classes = [draws.pick(pool) for _ in range(number)]
    if split == "demo" and index < NUM_DEMO_UNSEEN:
        classes[-1] = draws.pick(catalogue.unseen_objects)
    return classes


def _plan_object(draws: Draws, entry: SceneClass) -> SceneObject:
    base = _vary(draws, COLOURS[entry.colour], hue=8, saturation=0.12, value=0.15)
    grey = TEXTURES[entry.texture].brightness
    second = tuple(grey + (channel - grey) * 0.15 for channel in base)
    return SceneObject(
        class_id=entry.id,
        colour=entry.colour,
        texture=entry.texture,
        shape=entry.shape,
        centre=(0.5, 0.5),
        radius=draws.uniform(SMALLEST_RADIUS, LARGEST_RADIUS),
        angle=draws.uniform(-TILT, TILT),
        paint=(base, second),
        texture_angle=draws.uniform(-TILT, TILT),
        texture_period=draws.uniform(0.062, 0.08),
    )


def _plan_patches(draws: Draws, catalogue: Catalogue) -> tuple[GroundPatch, ...]:
    """Plan one ground, or two: the nearer one covers the lower part of the image."""
    offset = len(catalogue.objects)
    far = draws.integer(len(catalogue.grounds))
    patches = [_plan_patch(draws, catalogue, offset + far, height=-math.inf, slope=0)]
    if draws.integer(2):
        near = (far + 1 + draws.integer(len(catalogue.grounds) - 1)) % len(catalogue.grounds)
        slope = draws.uniform(-0.25, 0.25)
        height = draws.uniform(0.3, 0.7) - slope / 2
        patches.append(_plan_patch(draws, catalogue, offset + near, height, slope))
    return tuple(patches)


def _plan_patch(
    draws: Draws, catalogue: Catalogue, class_id: int, height: float, slope: float
) -> GroundPatch:
    name = catalogue.classes[class_id].name
    ground = GROUNDS[name]
    hue, value = draws.uniform(-8, 8), draws.uniform(-0.06, 0.06)
    dark, light = (_rgb(h + hue, s, v + value) for h, s, v in (ground.dark, ground.light))
    return GroundPatch(class_id, name, height, slope, (dark, light))


def _plan_light(draws: Draws) -> Light:
    warmth = draws.uniform(-0.07, 0.07)
    return Light(
        brightness=draws.uniform(0.75, 1.1),
        gradient=(draws.uniform(-0.35, 0.35), draws.uniform(-0.35, 0.35)),
        tint=(1 + warmth, 1.0, 1 - warmth),
    )


def _arrange(
    draws: Draws, objects: list[SceneObject], patches: tuple[GroundPatch, ...]
) -> tuple[SceneObject, ...]:
    """Move every object to where enough of it is visible; leave one out if there is no room."""
    for _ in range(_TRIES):
        placed = tuple(
            replace(entry, centre=(draws.uniform(0.08, 0.92), draws.uniform(0.08, 0.92)))
            for entry in objects
        )
        if _all_visible(placed, patches):
            return placed
    return _arrange(draws, objects[1:], patches)


def _all_visible(objects: tuple[SceneObject, ...], patches: tuple[GroundPatch, ...]) -> bool:
    """Return whether enough of every object and every ground is visible, on a coarse grid."""
    grid = (np.arange(_SKETCH, dtype=np.float32) + 0.5) / _SKETCH
    x, y = grid[None, :], grid[:, None]
    top = np.zeros((_SKETCH, _SKETCH), dtype=np.int64)
    for number, patch in enumerate(patches):
        top[np.broadcast_to(y > patch.height + patch.slope * x, top.shape)] = number
    for number, entry in enumerate(objects, start=len(patches)):
        top[entry.level(x, y) <= 1] = number
    areas = np.bincount(top.ravel(), minlength=len(patches) + len(objects)) / _SKETCH**2
    wanted = [0.08] * len(patches)
    wanted += [LEAST_VISIBLE * 3.1416 * entry.radius**2 for entry in objects]
    return bool((areas >= wanted).all())


def _vary(
    draws: Draws,
    colour: tuple[float, float, float],
    *,
    hue: float,
    saturation: float,
    value: float,
) -> RGB:
    h, s, v = colour
    return _rgb(
        h + draws.uniform(-hue, hue),
        s + draws.uniform(-saturation, saturation),
        v + draws.uniform(-value, value),
    )


def _rgb(hue: float, saturation: float, value: float) -> RGB:
    return colorsys.hsv_to_rgb(hue / 360 % 1, min(max(saturation, 0.0), 1.0), min(value, 1.0))


_NUMBERS = {1: "a", 2: "two", 3: "three", 4: "four", 5: "five"}


def caption(scene: Scene) -> str:
    """Return the caption of the image, such as "two red plain circles and a blue dotted square on
    sand and grass": the objects, the nearest first, and the ground."""
    names = [scene.catalogue.classes[entry.class_id].name for entry in reversed(scene.objects)]
    things = [_count_phrase(name, names.count(name)) for name in dict.fromkeys(names)]
    grounds = [patch.name for patch in scene.patches]
    return f"{_enumerate(things)} on {_enumerate(grounds)}"


def _count_phrase(name: str, count: int) -> str:
    if count == 1:
        return with_article(name)
    return f"{_NUMBERS[count]} {name}{'es' if name.endswith('s') else 's'}"


def with_article(name: str) -> str:
    """Return "a red plain circle" for "red plain circle"."""
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def _enumerate(phrases: list[str]) -> str:
    if len(phrases) == 1:
        return phrases[0]
    return ", ".join(phrases[:-1]) + " and " + phrases[-1]
