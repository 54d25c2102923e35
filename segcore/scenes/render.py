"""Render a planned scene as pixels and labels.

Each pixel is sampled at 3 x 3 points. Its colour is their mean, so that outlines are smooth; its
label is that of the middle point, so that labels are exact and never mixed.
"""

from dataclasses import dataclass

import numpy as np

from segcore.scenes.fields import Field
from segcore.scenes.grounds import GROUNDS, Noise
from segcore.scenes.plan import GroundPatch, Scene, SceneObject, rotate
from segcore.scenes.textures import TEXTURES

SAMPLES = 3  # a side; odd, so that one sample is the pixel's centre
_LATTICE = 64
_SHADOW = (0.22, 0.26)  # offset of an object's shadow, in units of its radius


@dataclass(frozen=True)
class Rendered:
    """A rendered scene.

    image: (size, size, 3) RGB, uint8.
    labels: (size, size) class ids, uint16.
    instances: (size, size) uint8; 0 on the ground, elsewhere the object's index in
        ``scene.objects``, from 1.
    """

    image: np.ndarray
    labels: np.ndarray
    instances: np.ndarray


def render(scene: Scene, size: int) -> Rendered:
    """Render ``scene`` as a square image of ``size`` pixels a side."""
    grid = (np.arange(size * SAMPLES, dtype=np.float32) + 0.5) / (size * SAMPLES)
    x, y = grid[None, :], grid[:, None]
    noise = Noise(scene.draws("ground").lattice(_LATTICE, _LATTICE))
    canvas = np.empty((3, size * SAMPLES, size * SAMPLES), dtype=np.float32)
    depth = np.zeros(canvas.shape[1:], dtype=np.uint8)
    for number, patch in enumerate(scene.patches):
        _paint_patch(canvas, depth, number, patch, x, y, noise)
    for number, entry in enumerate(scene.objects, start=len(scene.patches)):
        _paint_object(canvas, depth, number, entry, x, y)

    middle = depth[SAMPLES // 2 :: SAMPLES, SAMPLES // 2 :: SAMPLES]
    things = (*scene.patches, *scene.objects)
    labels = np.array([thing.class_id for thing in things], dtype=np.uint16)[middle]
    instances = np.maximum(middle.astype(np.int16) - (len(scene.patches) - 1), 0).astype(np.uint8)
    return Rendered(_photograph(canvas, scene, size), labels, instances)


def _paint_patch(
    canvas: np.ndarray,
    depth: np.ndarray,
    number: int,
    patch: GroundPatch,
    x: Field,
    y: Field,
    noise: Noise,
) -> None:
    wobble = noise(x * 8, np.full((1, 1), number, dtype=np.float32)) - 0.5
    edge = patch.height + patch.slope * x + 0.06 * wobble
    inside = y > edge
    weight = GROUNDS[patch.name].pattern(x, y, noise)
    for channel, (dark, light) in enumerate(zip(*patch.paint, strict=True)):
        np.copyto(canvas[channel], dark + (light - dark) * weight, where=inside)
    np.copyto(depth, number, where=inside)


def _paint_object(
    canvas: np.ndarray, depth: np.ndarray, number: int, entry: SceneObject, x: Field, y: Field
) -> None:
    reach = entry.radius * 2.2  # contains the corners of every shape and the shadow
    columns = _window(x[0], entry.centre[0], reach)
    rows = _window(y[:, 0], entry.centre[1], reach)
    x, y = x[:, columns], y[rows]
    canvas, depth = canvas[:, rows, columns], depth[rows, columns]

    shadow_level = entry.level(x - _SHADOW[0] * entry.radius, y - _SHADOW[1] * entry.radius)
    canvas *= 1 - 0.4 * np.clip((1.15 - shadow_level) / 0.4, 0, 1)

    inside = entry.level(x, y) <= 1
    s, t = rotate(*entry.local(x, y), entry.texture_angle)
    periods = entry.radius / entry.texture_period
    weight = TEXTURES[entry.texture].pattern(s * periods, t * periods)
    shading = _shading(entry, x, y)
    for channel, (first, second) in enumerate(zip(*entry.paint, strict=True)):
        np.copyto(canvas[channel], (first + (second - first) * weight) * shading, where=inside)
    np.copyto(depth, number, where=inside)


def _shading(entry: SceneObject, x: Field, y: Field) -> Field:
    """Return the brightness of the surface under light from the upper left."""
    step = 0.1 * entry.radius
    rise = entry.height(x + step, y + step) - entry.height(x - step, y - step)
    return 1 + 0.7 * rise


def _window(grid: np.ndarray, centre: float, reach: float) -> slice:
    start, stop = np.searchsorted(grid, [centre - reach, centre + reach])
    return slice(int(start), int(stop))


def _photograph(canvas: np.ndarray, scene: Scene, size: int) -> np.ndarray:
    """Average the samples (3, ...), blur, light and add noise: (size, size, 3) uint8."""
    rows = sum(canvas[:, start::SAMPLES] for start in range(SAMPLES))
    image = sum(rows[:, :, start::SAMPLES] for start in range(SAMPLES)) / SAMPLES**2
    for axis in (1, 2):
        image = _blur(image, scene.blur, axis)
    image *= _light(scene, size)
    grain = scene.draws("noise", scene.frame).grain(3, size, size)
    image += np.float32(scene.noise) * grain
    return np.floor(np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0).copy()


def _blur(image: np.ndarray, weight: float, axis: int) -> np.ndarray:
    padding = [(1, 1) if dimension == axis else (0, 0) for dimension in range(3)]
    padded = np.moveaxis(np.pad(image, padding, mode="edge"), axis, 0)
    blurred = padded[1:-1] * (1 - 2 * weight) + (padded[:-2] + padded[2:]) * weight
    return np.moveaxis(blurred, 0, axis)


def _light(scene: Scene, size: int) -> np.ndarray:
    """Return the brightness factor of every pixel, (3, size, size)."""
    centred = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    x, y = centred[None, :], centred[:, None]
    across, down = scene.light.gradient
    field = scene.light.brightness + across * x + down * y - 0.3 * (x * x + y * y)
    return np.array(scene.light.tint, dtype=np.float32)[:, None, None] * field
