"""Make the images of the tutorials with the models that ship.

PYTHONPATH=tools python -m docs_site.examples     # writes PNG files to docs/images

The photograph is a part of scikit-image's wheel.
"""

from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

import catrank
from segcore.drawing.overlays import color_map, contact_sheet
from segcore.drawing.segments import class_regions, draw_regions
from segcore.scenes import SCENES_60, plan_scene, plan_video, render
from segcore.vocabulary import Vocabulary

IMAGES = Path(__file__).resolve().parents[2] / "docs/images"
COLORS = "red, green, blue, purple, yellow, brick, stone, grass"
SIDE = 320  # pixels of a synthetic image; the models scale it to 96
SHOWN = (4, 8, 12)  # frames of the video


def first_image() -> np.ndarray:
    """Return a photograph and its prediction, (H, W, 3) uint8."""
    photograph = skimage.data.chelsea()
    return np.concatenate([photograph, _drawn(catrank.load().segment(photograph))], axis=1)


def own_vocabulary() -> np.ndarray:
    """Return synthetic images, predicted with two vocabularies, (H, W, 3) uint8."""
    model, rows = catrank.load("scenes-60"), []
    for index in (3, 11):
        image = _larger(render(plan_scene(SCENES_60, 0, "test", index), 96).image)
        named, colored = model.segment(image), model.segment(image, classes=COLORS)
        rows.append([image, _drawn(named), _drawn(colored)])
    return contact_sheet(rows, ("image", "60 class names", "names of colours"), cell=SIDE)


def first_video() -> np.ndarray:
    """Return frames of a synthetic video, and the objects in them, (H, W, 3) uint8."""
    scenes = plan_video(SCENES_60, 0, "test", 0, 16)
    frames = [_larger(render(scene, 96).image) for scene in scenes]
    results = list(catrank.load("scenes-60-video-instance").segment_video(frames))
    rows = [[frames[i] for i in SHOWN], [_drawn(results[i]) for i in SHOWN]]
    return contact_sheet(rows, cell=SIDE)


def custom_dataset() -> np.ndarray:
    """Return images, masks in colours, and both on each other, (H, W, 3) uint8."""
    vocabulary, rows = Vocabulary.registered("scenes_60"), []
    for index in (5, 21):
        scene = render(plan_scene(SCENES_60, 0, "train", index), 96)
        image = _larger(scene.image)
        labels = np.asarray(Image.fromarray(scene.labels.astype(np.uint8)).resize((SIDE, SIDE), 0))
        both = draw_regions(image, class_regions(labels, vocabulary))
        rows.append([image, color_map(labels, vocabulary.colors), both])
    return contact_sheet(rows, ("image", "mask", "both"), cell=SIDE)


def _drawn(result: catrank.Result) -> np.ndarray:
    return np.asarray(result.overlay())


def _larger(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def main() -> None:
    """Write all images."""
    for make in (first_image, own_vocabulary, custom_dataset, first_video):
        path = IMAGES / f"{make.__name__}.png"
        Image.fromarray(make()).quantize(128).save(path, optimize=True)


if __name__ == "__main__":
    main()
