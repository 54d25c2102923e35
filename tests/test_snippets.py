"""The Python blocks of README.md and docs/ run, with shipped models instead of published ones.

The blocks of a page run in order, as a reader would type them.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.modeling import build_model
from PIL import Image

import catseg_d2  # noqa: F401
import mask2former_rankseg  # noqa: F401
from segcore.config import load_config
from segcore.scenes import SCENES_60, plan_scene, plan_video, render

REPOSITORY = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
PAGES = [
    page.relative_to(REPOSITORY).as_posix()
    for page in (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md")))
    if BLOCK.search(page.read_text())
]
# Replacements in blocks: published file -> shipped file.
REPLACED = {
    'load("catseg-vitb")': 'load("scenes-60")',
    "catseg_d2/vitb_384.yaml": "catseg_d2/scenes_60.yaml",
    "model_base.pth": "{models}/scenes_60.safetensors",
    "mask2former_rankseg/youtubevis_2019/video_maskformer2_R50_bs16_8ep.yaml": (
        "mask2former_rankseg/scenes_60_video_instance.yaml"
    ),
    "model_final.pkl": "{models}/scenes_60_video_instance.safetensors",
}


def catseg() -> dict[str, Any]:
    """Return the names that the text of a page uses: a CAT-Seg and an image (3, 96, 96)."""
    weights = str(REPOSITORY / "demo/models/scenes_60.safetensors")
    opts = ["MODEL.WEIGHTS", weights, "MODEL.DEVICE", "cpu"]
    cfg = load_config("catseg_d2/scenes_60.yaml", opts)
    model = build_model(cfg).eval()
    DetectionCheckpointer(model).load(cfg.MODEL.WEIGHTS)
    rendered = render(plan_scene(SCENES_60, 0, "train", 0), 96).image
    return {"model": model, "image": torch.from_numpy(rendered).permute(2, 0, 1)}


def frames() -> dict[str, Any]:
    """Return three frames (3, 96, 96) of a video."""
    rendered = [render(scene, 96).image for scene in plan_video(SCENES_60, 0, "train", 0, 3)]
    return {"frames": [torch.from_numpy(frame).permute(2, 0, 1) for frame in rendered]}


def labelled() -> dict[str, Any]:
    """Label ``image.jpg``, whose labels the page reads."""
    pytest.importorskip("pyarrow", reason="labels are Parquet: pip install -e .[scale]")
    from catrank.labelling import label

    label(["image.jpg"], "labels", loading={"model": "scenes-60-panoptic", "device": "cpu"})
    return {}


NAMED_BEFORE = {
    "docs/howto/label.md": labelled,
    "docs/explanation/catseg.md": catseg,
    "docs/reference/vocabularies.md": catseg,
    "docs/explanation/video.md": frames,
}


@pytest.fixture
def names(tmp_path, monkeypatch, request) -> dict[str, Any]:
    """Run the blocks of a page in a folder with ``image.jpg``; return the names they define."""
    page = request.param
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.zeros((50, 80, 3), dtype=np.uint8)).save("image.jpg")
    names = NAMED_BEFORE.get(page, dict)()
    with torch.no_grad():
        for block in BLOCK.findall((REPOSITORY / page).read_text()):
            for written, shipped in REPLACED.items():
                block = block.replace(written, shipped.format(models=REPOSITORY / "demo/models"))
            exec(compile(block, page, "exec"), names)
    return names


def on(page: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("names", [page], indirect=True, ids=[page])


def test_every_page_is_here() -> None:
    tested = {mark.args[1][0] for test in TESTS for mark in test.pytestmark}
    assert tested == set(PAGES)


@on("README.md")
def test_readme(names) -> None:
    assert names["result"].labels.shape == (50, 80) and Path("out.png").is_file()
    assert names["scores"].shape == (3, 50, 80)
    assert names["labels"].shape == (50, 80) and int(names["labels"].max()) < 3


@on("docs/index.md")
def test_index(names) -> None:
    assert names["result"].labels.shape == (50, 80) and Path("out.png").is_file()


@on("docs/tutorials/first_image.md")
def test_first_image(names) -> None:
    assert names["result"].labels.shape == (50, 80) and Path("overlay.png").is_file()


@on("docs/reference/configuration.md")
def test_configuration(names) -> None:
    assert names["cfg"].MODEL.META_ARCHITECTURE == "CATSeg"


@on("docs/reference/checkpoints.md")
def test_checkpoints(names) -> None:
    assert "scenes-60-panoptic" in names["panoptic"] and names["weights"].is_file()
    assert names["config"] == "catseg_d2/vitb_384.yaml" and names["licence"].startswith("MIT")


@on("docs/explanation/catseg.md")
def test_catseg(names) -> None:
    assert names["labels"].shape == (96, 96) and names["labels"].dtype == torch.int64


@on("docs/explanation/rankseg.md")
def test_rankseg(names) -> None:
    assert names["prediction"].shape == (2, 32, 32)
    assert names["selected"].shape == (2, 50)
    assert torch.isfinite(names["pixel_loss"]) and torch.isfinite(names["image_loss"])


@on("docs/reference/vocabularies.md")
def test_vocabularies(names) -> None:
    segment, model, image = names["segment"], names["model"], names["image"]
    assert len(segment(model, image, names["pets"])) == 2
    assert len(segment(model, image, names["streets"])) == 19
    assert len(model([{"image": image}])[0]["sem_seg"]) == 3


@on("docs/explanation/video.md")
def test_video(names) -> None:
    prediction, part = names["prediction"], names["part"]
    assert 1 <= len(prediction["pred_scores"]) == len(prediction["pred_masks"]) <= 10
    assert all(len(masks) == 3 for masks in prediction["pred_masks"])
    assert part["frames"] == range(2, 3)


@on("docs/howto/label.md")
def test_label(names) -> None:
    assert names["labels"].key == "image.jpg" and names["labels"].error is None
    assert all(mask.shape == (50, 80) for mask in names["masks"])


@on("docs/howto/library.md")
def test_library(names) -> None:
    assert names["result"].labels.shape == (50, 80)
    for name in ("overlay.png", "annotations.json", "dataset.json", "panoptic/image.png"):
        assert Path(name).is_file()


TESTS = [
    test_readme,
    test_index,
    test_first_image,
    test_configuration,
    test_checkpoints,
    test_catseg,
    test_rankseg,
    test_vocabularies,
    test_video,
    test_label,
    test_library,
]
