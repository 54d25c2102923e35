"""Demos like the published ones run with this project's import line alone.

They are in ``tests/published/`` and call Detectron2's interface, so that they are the same test on
Detectron2 and on d2lite.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segcore.checkpoint import convert_for_detectron2
from segcore.scenes import SCENES_60, plan_scene, plan_video, render

SIZE = 96
OURS = "from mask2former_rankseg import add_maskformer2_config as add_family_config"
LINES = {
    "catseg_d2": "from catseg_d2 import add_cat_seg_config as add_family_config",
    "mask2former_rankseg": OURS,
}


@pytest.fixture(scope="module")
def drawing(tmp_path_factory) -> tuple[Path, Counter]:
    """Return a synthetic image of Scenes, and the areas of its classes by name."""
    image = render(plan_scene(SCENES_60, 0, "train", 0), SIZE)
    path = tmp_path_factory.mktemp("scenes") / "drawing.png"
    Image.fromarray(image.image).save(path)
    ids = zip(*np.unique(image.labels, return_counts=True), strict=True)
    return path, Counter({SCENES_60.classes[i].name: int(n) for i, n in ids})


@pytest.fixture
def run(repository, tmp_path):
    """Return a function that runs a script of ``tests/published`` with a shipped model."""

    def call(script: str, family: str, model: str, *images: Path, flags: tuple = ()) -> Path:
        text = (repository / "tests" / "published" / script).read_text()
        program = tmp_path / script
        program.write_text(text.replace(OURS, LINES[family]))
        # Detectron2's checkpointer, which these scripts use, reads no .safetensors.
        weights = convert_for_detectron2(str(repository / f"demo/models/{model}.safetensors"))
        config = repository / "configs" / family / f"{model}.yaml"
        out = tmp_path / "out"
        out.mkdir()
        command = [sys.executable, program, "--config-file", config, "--output", out]
        command += [
            *flags,
            "--input",
            *images,
            "--opts",
            "MODEL.WEIGHTS",
            weights,
            "MODEL.DEVICE",
            "cpu",
        ]
        done = subprocess.run(
            list(map(str, command)),
            env=os.environ | {"PYTHONPATH": str(repository)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return out

    return call


def assert_drawn(out: Path, image: Path, *kinds: str) -> None:
    """Check that every overlay has the image's size and differs from it."""
    before = np.asarray(Image.open(image).convert("RGB"))
    for kind in kinds:
        after = np.asarray(Image.open(out / f"{image.stem}_{kind}.png").convert("RGB"))
        assert after.shape == before.shape
        assert (after != before).mean() > 0.02, kind


def in_common(found: dict[str, int], ground_truth: Counter) -> float:
    """Return an upper bound of the pixel accuracy, from the areas of classes."""
    return (Counter(found) & ground_truth).total() / ground_truth.total()


@pytest.mark.parametrize(
    ("family", "model"),
    [("catseg_d2", "scenes_60"), ("mask2former_rankseg", "scenes_60_rankseg")],
)
def test_semantic_models_of_images(run, drawing, family, model):
    path, ground_truth = drawing
    out = run("image_demo.py", family, model, path)
    found = json.loads((out / "drawing.json").read_text())
    assert found.keys() == {"semantic"}
    assert sum(found["semantic"].values()) == SIZE * SIZE
    assert in_common(found["semantic"], ground_truth) > 0.8
    assert_drawn(out, path, "semantic", "frame")


def test_a_model_of_all_three_tasks(run, drawing):
    path, ground_truth = drawing
    out = run("image_demo.py", "mask2former_rankseg", "scenes_60_panoptic", path)
    found = json.loads((out / "drawing.json").read_text())
    assert in_common(found["semantic"], ground_truth) > 0.8
    assert in_common(found["panoptic"], ground_truth) > 0.8
    things = {entry.name for entry in SCENES_60.classes if entry.is_object}
    assert found["instances"] and set(found["instances"]) <= things
    assert set(found["instances"]) & set(ground_truth)
    # `PUBLISHED_OUTPUT` is not set: the boxes are those of the masks.
    assert all(0 <= x0 < x1 <= SIZE and 0 <= y0 < y1 <= SIZE for x0, y0, x1, y1 in found["boxes"])
    assert_drawn(out, path, "panoptic", "semantic", "instances", "frame")


def test_a_model_of_videos(run, tmp_path):
    scenes = plan_video(SCENES_60, 0, "train", 0, 3)
    paths = [tmp_path / f"{number}.png" for number in range(len(scenes))]
    for scene, path in zip(scenes, paths, strict=True):
        Image.fromarray(render(scene, SIZE).image).save(path)
    out = run("video_demo.py", "mask2former_rankseg", "scenes_60_video_instance", *paths)
    found = json.loads((out / "video.json").read_text())
    assert found["image_size"] == [SIZE, SIZE]
    assert 1 <= len(found["scores"]) <= 10
    assert found["scores"] == sorted(found["scores"], reverse=True)
    assert all(len(areas) == 3 for areas in found["areas"])
    shown = {SCENES_60.classes[entry.class_id].name for entry in scenes[0].objects}
    assert found["classes"][0] in shown, found
    for path in paths:
        assert_drawn(out, path, "video")


@pytest.mark.slow
def test_predictors_in_processes_of_their_own(run, drawing):
    """The program compares what they return with its own predictions."""
    path, _ = drawing
    family, model = "mask2former_rankseg", "scenes_60_rankseg"
    out = run("image_demo.py", family, model, path, path, flags=("--parallel", "2"))
    assert (out / "drawing.json").is_file()
