"""Videos by the command line: streams of frames, stable tracks, damaged files."""

import importlib
import json
from fractions import Fraction

import numpy as np
import pytest
import torch
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.modeling import build_model
from PIL import Image
from torch import nn

import mask2former_rankseg  # noqa: F401
from catrank import Model
from segcore.config import load_config
from segcore.video_files import open_video
from segcore.video_files.writing import VideoWriter
from segcore.vocabulary import Vocabulary

pytest.importorskip("av", reason="videos are read by PyAV: pip install av")

SMALL = {
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": 32,
    "MODEL.SEM_SEG_HEAD.MASK_DIM": 16,
    "MODEL.SEM_SEG_HEAD.TRANSFORMER_ENC_LAYERS": 1,
    "MODEL.MASK_FORMER.HIDDEN_DIM": 32,
    "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES": 12,
    "MODEL.MASK_FORMER.DIM_FEEDFORWARD": 32,
    "MODEL.MASK_FORMER.TEST.CLIP_FRAMES": 4,
    "MODEL.DEVICE": "cpu",
}


def images(count: int = 8) -> list[np.ndarray]:
    """A bright square that moves over noise, 64 x 64."""
    noise = np.random.default_rng(0).integers(0, 100, (64, 64, 3), dtype=np.uint8)
    frames = [noise.copy() for _ in range(count)]
    for number, frame in enumerate(frames):
        frame[20:40, 4 * number : 4 * number + 20] = (250, 200, 50)
    return frames


@pytest.fixture
def clip(tmp_path):
    with VideoWriter(tmp_path / "clip.mp4", Fraction(30000, 1001)) as writer:
        for frame in images():
            writer.write(frame)
    return tmp_path / "clip.mp4"


@pytest.fixture
def open_vocabulary(tiny_model):
    """Arguments before and after the others, of an open-vocabulary model."""
    config, weights = tiny_model
    opts = ["--opts", "MODEL.WEIGHTS", weights, "MODEL.DEVICE", "cpu"]
    return ["--config-file", config, "--vocabulary", "sky, tree, my dog"], opts


@pytest.fixture
def small(tmp_path):
    """The same of a small Mask2Former with random weights, by the name of a config."""

    def make(config: str) -> tuple[list[str], list[str]]:
        opts = [str(value) for pair in SMALL.items() for value in pair]
        torch.manual_seed(0)
        model = build_model(load_config(f"mask2former_rankseg/{config}", opts))
        torch.save({"model": model.state_dict()}, weights := tmp_path / "model.pth")
        named = ["--config-file", f"mask2former_rankseg/{config}"]
        return named, ["--opts", *opts, "MODEL.WEIGHTS", str(weights)]

    return make


def labels_of(folder) -> np.ndarray:
    """(T, H, W), in the order of the names."""
    return np.stack([np.asarray(Image.open(p)) for p in sorted(folder.glob("*_labels.png"))])


def test_a_file_becomes_a_file(demo, open_vocabulary, clip, tmp_path, capsys):
    model, opts = open_vocabulary
    files = ["--video-input", clip, "--output", tmp_path / "out.mp4"]
    assert demo(*model, *files, *opts) == 0
    assert "8 frames of" in capsys.readouterr().out
    result = open_video(tmp_path / "out.mp4")
    assert result.rate == Fraction(30000, 1001)
    frames = list(result.frames())
    assert len(frames) == 8 and frames[0].shape == (64, 64, 3)
    assert demo(*model, *files, *opts) == 2
    assert "is there already" in capsys.readouterr().err
    assert demo(*model, *files, "--overwrite", "--frame-rate", "5", *opts) == 0
    assert open_video(tmp_path / "out.mp4").rate == 5


def test_a_folder_becomes_a_folder_as_single_images_do(demo, open_vocabulary, tmp_path, capsys):
    model, opts = open_vocabulary
    (tmp_path / "frames").mkdir()
    for number, frame in enumerate(images(3)):
        Image.fromarray(frame).save(tmp_path / "frames" / f"{number}.png")
    arguments = ["--output", tmp_path / "video", *opts]
    assert demo(*model, "--video-input", tmp_path / "frames", *arguments) == 0
    assert demo(*model, "--video-input", tmp_path / "frames", *arguments) == 2
    assert "_labels.png is there already" in capsys.readouterr().err
    arguments = ["--output", tmp_path / "images", *opts]
    assert demo(*model, "--input", tmp_path / "frames", *arguments) == 0
    for kind in ("labels", "overlay"):
        for number in range(3):
            one, other = (tmp_path / f / f"{number}_{kind}.png" for f in ("video", "images"))
            assert one.read_bytes() == other.read_bytes()
    assert (tmp_path / "video" / "vocabulary.json").exists()


def test_a_closed_vocabulary_image_model(demo, small, clip, tmp_path):
    model, opts = small("scenes_60_panoptic_rankseg.yaml")
    opts += ["MODEL.MASK_FORMER.TEST.OBJECT_MASK_THRESHOLD", "0.0"]
    assert demo(*model, "--video-input", clip, "--output", tmp_path / "out", *opts) == 0
    assert labels_of(tmp_path / "out").shape == (8, 64, 64)
    listed = json.loads((tmp_path / "out" / "000007_segments.json").read_text())
    assert {"id", "category_id", "name"} <= listed[0].keys()


@pytest.mark.parametrize("config", ["semantic", "semantic_rankseg", "instance"])
def test_a_video_model(demo, small, clip, tmp_path, config):
    model, opts = small(f"scenes_60_video_{config}.yaml")
    arguments = ["--video-input", clip, "--min-score", "0"]
    assert demo(*model, *arguments, "--output", tmp_path / "out.mp4", *opts) == 0
    assert len(list(open_video(tmp_path / "out.mp4").frames())) == 8
    assert demo(*model, *arguments, "--output", tmp_path / "out", *opts) == 0
    assert labels_of(tmp_path / "out").shape == (8, 64, 64)
    assert (tmp_path / "out" / "000000_segments.json").exists() == (config == "instance")


def test_a_video_model_takes_no_images(demo, small, tmp_path, capsys):
    model, opts = small("scenes_60_video_semantic.yaml")
    Image.fromarray(images(1)[0]).save(tmp_path / "a.png")
    arguments = ["--input", tmp_path / "a.png", "--output", tmp_path / "out"]
    assert demo(*model, *arguments, *opts) == 2
    assert "--video-input" in capsys.readouterr().err


class Tracks(nn.Module):
    """Imitates a video model: it finds the bright square, and from frame 4 on an area below it."""

    clip_frames = 3

    def __init__(self) -> None:
        super().__init__()
        self.requested: list[int] = []

    def stream(self, item: dict, min_score: float):
        frames = item["image"]
        for start in range(0, len(frames), self.clip_frames):
            numbers = range(start, min(start + self.clip_frames, len(frames)))
            read = torch.stack([frames[number] for number in numbers])
            self.requested.extend(numbers)
            square = read[:, 0] > 150
            below = torch.zeros_like(square)
            below[:, 50:] = torch.tensor([number >= 4 for number in numbers])[:, None, None]
            yield {
                "frames": numbers,
                "instances": [
                    {"track_id": 70_000, "label": 1, "score": 0.6, "masks": below},
                    {"track_id": 3, "label": 1, "score": 0.9, "masks": square},
                ],
            }


@pytest.fixture
def tracker():
    """A model around such a network."""
    model = object.__new__(Model)
    model.network, model.min_score, model.format = Tracks(), 0.5, "RGB"
    model.vocabulary = Vocabulary.from_class_names(["sky", "thing"])
    model.resize = ResizeShortestEdge([64, 64], 64)
    return model


def test_tracks_keep_number_and_colour(tracker, clip, tmp_path):
    script = importlib.import_module("catrank.runs.videos")
    video = open_video(clip)
    run = {"rate": video.rate, "alpha": 1.0}
    assert script.segment_video(tracker, video, tmp_path / "out", **run) is None
    assert tracker.network.requested == [*range(8)]
    labels = labels_of(tmp_path / "out")
    for number in range(8):
        assert labels[number, 30, 4 * number + 10] == 1  # the square moved so far
        assert labels[number, 60, 5] == (2 if number >= 4 else 0)
    overlay = [np.asarray(Image.open(p)) for p in sorted((tmp_path / "out").glob("*overlay.png"))]
    colors = {tuple(overlay[number][37, 4 * number + 3 + 12]) for number in range(8)}
    assert len(colors) == 1


def test_a_truncated_video_is_written_up_to_the_damage(
    demo, tracker, open_vocabulary, tmp_path, capsys, monkeypatch
):
    noise = np.random.default_rng(0).integers(0, 256, (30, 64, 64, 3), dtype=np.uint8)
    with VideoWriter(tmp_path / "a.mkv", Fraction(10)) as writer:
        for frame in noise:
            writer.write(frame)
    content = (tmp_path / "a.mkv").read_bytes()
    (tmp_path / "a.mkv").write_bytes(content[: len(content) // 2])
    model, opts = open_vocabulary
    arguments = ["--video-input", tmp_path / "a.mkv", "--output", tmp_path / "out.mp4", *opts]
    assert demo(*model, *arguments) == 1
    (failure,) = [line for line in capsys.readouterr().err.splitlines() if "failed" in line]
    written = len(list(open_video(tmp_path / "out.mp4").frames()))
    assert 5 < written < 30 and f"after {written} frames" in failure
    script = importlib.import_module("catrank.runs.videos")
    video, run = open_video(tmp_path / "a.mkv"), {"rate": Fraction(10), "alpha": 0.5}
    assert "damaged or truncated" in script.segment_video(tracker, video, tmp_path / "out", **run)
    assert len(labels_of(tmp_path / "out")) == written


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--video-input", "absent.mp4"], "absent.mp4"),
        (["--output", "out.webm"], "videos are written as .mp4"),
        (["--output", "/proc/absent/out.mp4"], "cannot write /proc/absent/out.mp4"),
    ],
)
def test_an_error_is_one_message(demo, open_vocabulary, clip, tmp_path, capsys, more, message):
    model, opts = open_vocabulary
    arguments = ["--video-input", clip, "--output", tmp_path / "out.mp4", *more]
    assert demo(*model, *arguments, *opts) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and message in error


@pytest.mark.parametrize("rate", ["0", "fast", "1/0", "-1"])
def test_invalid_frame_rates(demo, open_vocabulary, clip, tmp_path, rate):
    model, opts = open_vocabulary
    files = ["--video-input", clip, "--output", tmp_path / "out.mp4", "--frame-rate", rate]
    assert demo(*model, *files, *opts) == 2
