"""``catrank segment`` and ``catrank video`` with models that ship."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from catrank.cli import main


@pytest.fixture
def album(tmp_path: Path, monkeypatch) -> Path:
    """A folder of two images, and an empty folder to run in."""
    folder = tmp_path / "album"
    folder.mkdir()
    for name in ("a", "b"):
        pixels = np.random.default_rng(ord(name)).integers(0, 256, (40, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    monkeypatch.chdir(tmp_path)
    return folder


def segment(*arguments: object) -> int:
    return main(["segment", *map(str, arguments), "--device", "cpu"])


def names(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def test_own_class_names(album: Path, capsys) -> None:
    assert segment(album, "--model", "scenes-60", "--classes", "sand, red disk") == 0
    model, counted = capsys.readouterr().out.splitlines()
    assert model.startswith("model: scenes-60 (CATSeg on cpu, open vocabulary, 2: sand, ")
    assert counted == "2 of 2 images segmented, see segmented"
    classes = json.loads(Path("segmented/vocabulary.json").read_text())["classes"]
    assert [each["name"] for each in classes] == ["sand", "red disk"]
    assert {"a_labels.png", "a_legend.png", "a_overlay.png"} <= {*names("segmented")}


def test_without_a_model(album: Path, capsys) -> None:
    assert segment(album / "a.png") == 0
    model, _ = capsys.readouterr().out.splitlines()
    assert model.startswith(
        "model: deeplabv3-mobilenet-voc, because --model names none (PerPixelSegmenter on cpu, "
        "fixed classes, 21: background, aeroplane, "
    )


def test_formats(album: Path, capsys) -> None:
    line = (album / "a.png", "--model", "scenes-60-panoptic", "--output", "out")
    assert segment(*line, "--save", "overlay, coco,geojson") == 0
    assert names("out") == ["a.geojson", "a_coco.json", "a_overlay.png"]
    assert json.loads(Path("out/a_coco.json").read_text())["images"][0]["file_name"] == "a.png"
    with pytest.raises(SystemExit) as stop:
        segment(*line, "--save", "overlay, coco,geojson")
    assert stop.value.code == 2 and "is there already" in capsys.readouterr().err
    assert segment(*line, "--save", "overlay", "--overwrite") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--save", "pdf"], "--save pdf: there is no such format; there are overlay, "),
        (["--model", "scenes-61"], "no model 'scenes-61': near names are scenes-60"),
        (["--model", "scenes-60", "--classes", " , "], "--classes names no class"),
        (["--model", "scenes-60-panoptic", "--classes", "a, b"], "has 2 names, but"),
        (["--config", "catseg_d2/scenes_60.yaml"], "a config is given but no checkpoint"),
        (["--model", "scenes-60", "--keep", "0"], "--keep is 0: use a number of classes from 1"),
        (["--model", "scenes-60", "--keep", "0.05"], "no probabilities of classes to compare"),
        (["--model", "scenes-60-panoptic", "--keep", "4"], "predicts all its classes"),
        (["--model", "scenes-60", "--ranking", "a.pt"], "MODEL.RANKSEG.WEIGHTS is a.pt, wh"),
    ],
)
def test_errors(album: Path, arguments: list[str], message: str, capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        segment(album, *arguments)
    printed = capsys.readouterr().err
    assert stop.value.code == 2 and message in printed and printed.count("\n") == 1


def test_what_cannot_be_read_is_reported(album: Path, capsys) -> None:
    (album / "c.png").write_bytes(b"no image")
    assert segment(album, "--model", "scenes-60") == 1
    printed = capsys.readouterr()
    assert "2 of 3 images segmented" in printed.out
    assert printed.err.splitlines()[-1].startswith("failed: ")


def test_a_folder_of_frames(album: Path, capsys) -> None:
    line = ["video", str(album), "--model", "scenes-60-video-instance", "--output", "out"]
    assert main([*line, "--device", "cpu"]) == 0
    assert "2 frames of " in capsys.readouterr().out
    assert {"a_labels.png", "a_overlay.png", "a_segments.json"} <= {*names("out")}
