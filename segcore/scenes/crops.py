"""Crops of an image that show one object each, with captions.

A caption of a whole image lists up to five objects. A crop says which words belong together, to one
region, which a small model cannot find out from a few thousand lists.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from segcore.runtime.files import replace
from segcore.scenes.plan import Scene, SceneObject, with_article

REACH = 1.4  # half the side of a crop, in radii of the object
MOST_OTHER = 0.1  # fraction of a crop that other objects may cover
LEAST_OWN = 0.25  # fraction that the object covers


def write_crops(
    folder: Path, stem: str, scene: Scene, image: np.ndarray, labels: np.ndarray
) -> list[tuple[str, str]]:
    """Write the missing crops of an image as ``<stem>-<instance number>.png``.

    Returns:
        a row of the table for each crop: the name of the file, and the caption.
    """
    rows = []
    for number, crop, caption in object_crops(scene, image, labels):
        path = folder / f"{stem}-{number}.png"
        if not path.is_file():
            replace(path, partial(Image.fromarray(crop).save, format="PNG"))
        rows.append((path.name, caption))
    return rows


def object_crops(
    scene: Scene, image: np.ndarray, labels: np.ndarray
) -> Iterator[tuple[int, np.ndarray, str]]:
    """Yield instance number, pixels and caption of every object that can be cropped.

    An object is left out if it covers too little of its crop, or others cover too much.

    Args:
        scene: the plan of the image.
        image: (size, size, 3) RGB uint8.
        labels: (size, size) class ids.

    Returns:
        pixels are (h, w, 3); the caption is such as "a red striped circle on sand".
    """
    grounds = {patch.class_id: patch.name for patch in scene.patches}
    for number, entry in enumerate(scene.objects, start=1):
        rows, columns = _window(entry, len(labels))
        ids = labels[rows, columns]
        shares = {int(id): (ids == id).mean() for id in np.unique(ids)}
        own = shares.get(entry.class_id, 0.0)
        ground = {id: share for id, share in shares.items() if id in grounds}
        if own < LEAST_OWN or 1 - own - sum(ground.values()) > MOST_OTHER:
            continue
        caption = with_article(scene.catalogue.classes[entry.class_id].name)
        if ground:
            caption += f" on {grounds[max(ground, key=ground.__getitem__)]}"
        yield number, np.ascontiguousarray(image[rows, columns]), caption


def _window(entry: SceneObject, size: int) -> tuple[slice, slice]:
    """Return rows and columns of a square around an object, cut at the edges of the image."""
    x, y = (
        slice(
            max(round(size * (centre - REACH * entry.radius)), 0),
            min(round(size * (centre + REACH * entry.radius)), size),
        )
        for centre in entry.centre
    )
    return y, x
