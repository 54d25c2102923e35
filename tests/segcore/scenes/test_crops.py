"""Crops of single objects: what they show, and that their captions say it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segcore.datasets.captions import read_captions
from segcore.scenes import SCENES_60, Settings, plan_scene, write_scenes
from segcore.scenes.crops import object_crops
from segcore.scenes.render import render

SETTINGS = Settings(num_train=4, num_test=1, size=64)


def crops_below(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in root.glob("scenes-60/train/crops/*.png")}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("scenes")
    write_scenes(root, SCENES_60, SETTINGS, crops=True)
    return root


def test_captions_name_the_object_and_its_ground() -> None:
    number = 0
    for index in range(20):
        scene = plan_scene(SCENES_60, 0, "train", index)
        rendered = render(scene, 64)
        for instance, crop, caption in object_crops(scene, rendered.image, rendered.labels):
            entry = scene.objects[instance - 1]
            name = SCENES_60.classes[entry.class_id].name
            article = "an" if name[0] in "aeiou" else "a"
            grounds = [f" on {patch.name}" for patch in scene.patches]
            assert caption in [f"{article} {name}{ground}" for ground in (*grounds, "")]
            assert crop.dtype == np.uint8 and min(crop.shape[:2]) > 8
            number += 1
    assert 20 < number < 100


def test_the_table_lists_the_files(root: Path) -> None:
    folder = root / "scenes-60" / "train"
    records = read_captions("crops", folder / "crops.tsv", folder / "crops")
    assert {Path(record["file_name"]).name for record in records} == set(crops_below(root))
    image = np.asarray(Image.open(folder / "images" / "000000.png"))
    scene = plan_scene(SCENES_60, 0, "train", 0)
    labels = np.asarray(Image.open(folder / "labels" / "000000.png")).astype(int)
    for number, crop, _ in object_crops(scene, image, labels):
        written = np.asarray(Image.open(folder / "crops" / f"000000-{number}.png"))
        np.testing.assert_array_equal(written, crop)


def test_crops_depend_on_the_settings_alone(root: Path, tmp_path: Path) -> None:
    plain = write_scenes(tmp_path, SCENES_60, SETTINGS)
    assert not crops_below(tmp_path)
    again = write_scenes(tmp_path, SCENES_60, SETTINGS, crops=True, workers=2)
    assert again == plain and crops_below(tmp_path) == crops_below(root)
    name = min(crops_below(root))
    (tmp_path / "scenes-60" / "train" / "crops" / name).unlink()
    write_scenes(tmp_path, SCENES_60, SETTINGS, crops=True)
    assert crops_below(tmp_path) == crops_below(root)
