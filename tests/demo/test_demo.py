"""The command line of the demo: results, error messages of one line, exit codes."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from catrank import Model
from segcore.config import load_config
from segcore.inference.predictions import PredictionKind
from segcore.vocabulary import Vocabulary


@pytest.fixture
def album(tmp_path):
    """Two images, and two files that claim to be images."""
    folder = tmp_path / "album"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (70, 110, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "a.png")
    Image.fromarray(noise[:, :50, 0]).save(folder / "grey.jpg")
    (folder / "broken.png").write_bytes((folder / "a.png").read_bytes()[:500])
    (folder / "text.png").write_text("no image")
    return folder


@pytest.fixture
def model(tiny_model):
    """The arguments that name the model."""
    config, weights = tiny_model
    device = ["MODEL.DEVICE", "cpu"]
    return ["--config-file", config], ["--opts", "MODEL.WEIGHTS", weights, *device]


def test_a_run_continues_after_errors_and_reports_them(demo, model, album, tmp_path, capsys):
    config, opts = model
    out = tmp_path / "out"
    vocabulary = ["--vocabulary", "sky, tree, my dog"]
    assert demo(*config, "--input", album, "--output", out, *vocabulary, *opts) == 1
    printed = capsys.readouterr()
    assert "2 of 4 images segmented" in printed.out
    assert re.findall(r"^failed: .*(broken|text)\.png", printed.err, re.MULTILINE) == [
        "broken",
        "text",
    ]
    with Image.open(out / "a_labels.png") as labels:
        assert labels.size == (110, 70) and labels.mode == "I;16"
        assert np.asarray(labels).max() < 3
    assert sorted(path.name for path in out.iterdir()) == [
        "a_labels.png",
        "a_legend.png",
        "a_overlay.png",
        "grey_labels.png",
        "grey_legend.png",
        "grey_overlay.png",
        "vocabulary.json",
    ]
    classes = json.loads((out / "vocabulary.json").read_text())["classes"]
    assert [entry["name"] for entry in classes] == ["sky", "tree", "my dog"]


def test_a_written_vocabulary_gives_the_same_labels(demo, model, album, tmp_path):
    """With templates, synonyms and a background, whose prompts are one class in label maps."""
    config, opts = model
    vocabulary = tmp_path / "vocabulary.json"
    table = {
        "classes": ["grass, lawn", {"name": "cat", "prompt": "a red cat"}, "dog"],
        "templates": ["a drawing of a {}.", "{}"],
        "background": {"words": ["wall", "floor", "sky", "sea", "sand", "snow"], "name": "rest"},
    }
    vocabulary.write_text(json.dumps(table))
    arguments = [*config, "--input", album / "a.png"]
    assert demo(*arguments, "--vocabulary", vocabulary, "--output", tmp_path / "1", *opts) == 0
    written = tmp_path / "1" / "vocabulary.json"
    assert demo(*arguments, "--vocabulary", written, "--output", tmp_path / "2", *opts) == 0
    for name in ("a_labels.png", "a_overlay.png", "a_legend.png", "vocabulary.json"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()
    with Image.open(tmp_path / "1" / "a_labels.png") as image:
        labels = np.asarray(image)
    assert labels.max() <= 3, "0 to 2 are classes, 3 is the background"


def test_a_call_takes_a_vocabulary_of_its_own(tiny_model):
    config, weights = tiny_model
    cfg = load_config(config, ["MODEL.WEIGHTS", str(weights), "MODEL.DEVICE", "cpu"])
    model = Model(cfg, Vocabulary.load("sky, tree"))
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    assert model.segment(noise, "sky").labels.max() == 0
    other = model.segment(noise, ["tree", "sky"]).labels
    assert (other == 1 - model.segment(noise).labels).all()


def test_success_is_0_and_results_are_not_replaced(demo, model, album, tmp_path, capsys):
    config, opts = model
    arguments = [*config, "--input", album / "a.png", "--output", tmp_path / "out"]
    assert demo(*arguments, *opts) == 0
    before = (tmp_path / "out" / "a_labels.png").read_bytes()
    assert demo(*arguments, *opts) == 2
    assert "is there already" in capsys.readouterr().err
    assert demo(*arguments, "--overwrite", *opts) == 0
    assert (tmp_path / "out" / "a_labels.png").read_bytes() == before


@pytest.fixture
def interrupted(demo, model, album, tmp_path, monkeypatch, capsys):
    """Call the command line, interrupted after so many images; returns the shapes segmented."""
    config, opts = model
    segmented = []
    call = Model.segment

    def run(*arguments, after=None, code=0) -> list:
        segmented.clear()

        def segment(model, image):
            if len(segmented) == after:
                raise KeyboardInterrupt
            segmented.append(image.shape)
            return call(model, image)

        monkeypatch.setattr(Model, "segment", segment)
        source = ["--input", album / "a.png", album / "b.png", album / "grey.jpg"]
        found = demo(*config, *source, "--output", tmp_path / "out", *arguments, *opts)
        assert found == code, capsys.readouterr().err
        return segmented

    (album / "b.png").write_bytes((album / "a.png").read_bytes())
    return run


def test_an_interrupted_run_is_resumed(interrupted, album, tmp_path, capsys):
    whole = (70, 110, 3)
    assert interrupted(after=1, code=130) == [whole]
    assert capsys.readouterr().err.endswith(
        "interrupted: the same command resumes, without --overwrite\n"
    )
    (tmp_path / "out/b_labels.png").write_text("of an image that was being written")
    before = (tmp_path / "out/a_labels.png").stat()
    assert interrupted() == [whole, (70, 50, 3)]
    assert (tmp_path / "out/a_labels.png").stat() == before
    with Image.open(tmp_path / "out/b_labels.png") as labels:
        assert labels.size == (110, 70)
    assert not list(tmp_path.glob("out/progress*")) and not list(tmp_path.glob("out/*.lock"))
    interrupted(code=2)  # it is finished


def test_changed_images_are_segmented_again(interrupted, album, tmp_path):
    interrupted(after=2, code=130)
    Image.new("RGB", (60, 40)).save(album / "a.png")
    (tmp_path / "out/b_legend.png").unlink()
    assert len(interrupted()) == 3


def test_other_settings_do_not_resume(interrupted, capsys):
    interrupted(after=1, code=130)
    for other in (["--alpha", "0.2"], ["--min-score", "0.4"], ["--vocabulary", "sky, tree"]):
        interrupted(*other, code=2)
        assert "is there already" in capsys.readouterr().err
    assert len(interrupted("--overwrite")) == 3, "it starts over"


def test_links_count_as_results(interrupted, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a_labels.png").symlink_to(tmp_path / "elsewhere.png")
    interrupted(code=2)
    assert "a_labels.png is there already" in capsys.readouterr().err
    interrupted("--overwrite")
    assert not (tmp_path / "elsewhere.png").exists()
    assert not (tmp_path / "out/a_labels.png").is_symlink()


def test_class_names_determine_the_prediction(demo, model, album, tmp_path):
    """The same class names in another order give the same regions under other ids."""
    config, opts = model
    maps = []
    for number, names in enumerate(("sky, tree, my dog", "my dog, sky, tree")):
        out = tmp_path / str(number)
        demo(*config, "--input", album / "a.png", "--output", out, "--vocabulary", names, *opts)
        maps.append(np.asarray(Image.open(out / "a_labels.png")))
    assert (np.array([1, 2, 0])[maps[0]] == maps[1]).mean() > 0.999


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--vocabulary", "sky, sky"], "both named 'sky'"),
        (["--vocabulary", "sky, ,tree"], "empty"),
        (["--vocabulary", "<|endoftext|>, sky"], "marker"),
        (["--vocabulary", "absent.json"], "absent.json"),
        (["--vocabulary", "a b " * 40], "reads 77"),
        (["--input", "absent.png"], "absent.png"),
        (["--output", "/proc/absent/out"], "/proc/absent/out cannot be written"),
        (["--config-file", "absent.yaml"], "absent.yaml"),
        (["--opts", "MODEL.WEIGHTS", ""], "MODEL.WEIGHTS is empty"),
        (["--opts", "MODEL.WEIGHTS", "absent.pth"], "absent.pth"),
        (["--opts", "MODEL.WEIGTS", "x.pth"], "nearest is MODEL.WEIGHTS"),
    ],
)
def test_an_error_is_one_message(demo, model, album, tmp_path, capsys, arguments, message):
    config, opts = model
    given = [*config, "--input", album / "a.png", "--output", tmp_path / "out"]
    line = [*given, *arguments] if "--opts" in arguments else [*given, *arguments, *opts]
    assert demo(*line) == 2
    printed = capsys.readouterr().err.strip().splitlines()
    assert printed[-1].startswith("error: ") and message in printed[-1]
    assert "Traceback" not in "\n".join(printed)


def test_a_checkpoint_of_another_model_is_refused(demo, model, tiny_model, album, tmp_path, capsys):
    config, opts = model
    other = [*opts, "MODEL.SEM_SEG_HEAD.NUM_LAYERS", "2"]
    assert demo(*config, "--input", album, "--output", tmp_path / "out", *other) == 2
    assert str(tiny_model[1]) in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_labels_are_those_of_the_highest_scores(tiny_model):
    config, weights = tiny_model
    cfg = load_config(config, ["MODEL.WEIGHTS", str(weights), "MODEL.DEVICE", "cpu"])
    model = Model(cfg)
    assert cfg.TEST.SEM_SEG_OUTPUT == "scores"  # the caller's config stays as it is
    image = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    labels = model.segment(image).labels
    assert labels.dtype == np.int32
    model.network.prediction_kind = PredictionKind("scores")
    scores = model.network([{"image": torch.from_numpy(image.transpose(2, 0, 1).copy())}])
    assert (labels == scores[0]["sem_seg"].argmax(dim=0).numpy()).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 10_000), (900, 1)])
def test_thin_images_are_segmented(tiny_model, shape):
    config, weights = tiny_model
    opts = ["MODEL.WEIGHTS", str(weights), "MODEL.DEVICE", "cpu"]
    model = Model(load_config(config, opts))
    assert model.segment(np.zeros((*shape, 3), dtype=np.uint8)).labels.shape == shape


def test_help(repository):
    command = [sys.executable, str(repository / "demo" / "demo.py"), "--help"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "--vocabulary" in done.stdout


def test_warnings_of_blank_images_are_printed(demo, tiny_model, tmp_path, capsys) -> None:
    config, weights = tiny_model
    for name in ("a\x1b[2Jb.png", "c.png"):
        Image.new("RGB", (60, 40)).save(tmp_path / name)
    code = demo(
        *("--config-file", config, "--input", tmp_path, "--output", tmp_path / "out"),
        *("--vocabulary", "sky, sky blue", "--opts", "MODEL.WEIGHTS", weights),
        *("MODEL.DEVICE", "cpu"),
    )
    printed = capsys.readouterr()
    assert code == 0 and "\x1b[2J" not in printed.err + printed.out
    assert "warning: " in printed.err and r"a\x1b[2Jb.png is all black" in printed.err
    assert "c.png is all black" in printed.err
