"""Example images of the page."""

import importlib.util
from pathlib import Path

import numpy as np

from segcore.images import read_image
from segcore.scenes import SCENES_60, plan_scene, render

COUNT, SIDE = 4, 192
PHOTOGRAPHS = ("chelsea.png", "astronaut.png", "coffee.png", "rocket.jpg")


def example_images(class_names: tuple[str, ...]) -> list[np.ndarray]:
    """Return images (H, W, 3) uint8 for a model.

    Args:
        class_names: of the model. Models of Scenes get images of Scenes; others photographs of
            scikit-image where it is installed, and else images of Scenes too.
    """
    objects = {each.name for each in SCENES_60.classes} - {*SCENES_60.grounds}
    photographs = [] if objects & {*class_names} else _photographs()
    return photographs or [
        render(plan_scene(SCENES_60, 0, "val", number), SIDE).image for number in range(COUNT)
    ]


def _photographs() -> list[np.ndarray]:
    found = importlib.util.find_spec("skimage")  # not imported: it would take a second
    if found is None or found.origin is None:
        return []
    paths = [Path(found.origin).parent / "data" / name for name in PHOTOGRAPHS]
    return [read_image(path) for path in paths if path.is_file()]
