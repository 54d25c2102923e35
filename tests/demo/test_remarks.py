"""What is obviously nothing is said in one line, and what may be something is not."""

import importlib

import numpy as np
import pytest
from PIL import Image

from segcore.drawing.segments import Segment
from segcore.vocabulary import Vocabulary

WORDS = Vocabulary.load("sky, tree, dog")


@pytest.fixture
def remarks():
    return importlib.import_module("remarks")


@pytest.mark.parametrize(
    ("low", "high", "color"),
    [(0, 0, "black"), (0, 3, "black"), (255, 255, "white"), (252, 255, "white"), (0, 4, None),
     (251, 255, None), (0, 255, None), (128, 128, None)],
)  # fmt: skip
def test_images_without_content(remarks, low: int, high: int, color: str | None) -> None:
    image = np.full((4, 5, 3), low, dtype=np.uint8)
    image[2, 3, 1] = high
    assert remarks.blank_color(image) == color


def lines(remarks, vocabulary: Vocabulary, *predictions) -> list[str]:
    run = remarks.Remarks(vocabulary)
    for prediction in predictions:
        run.add(prediction)
    return list(run.lines())


def test_one_class_in_all_results(remarks) -> None:
    trees = remarks.Prediction(np.ones((4, 5), dtype=np.int64))
    mixed = remarks.Prediction(np.arange(2).repeat(10).reshape(4, 5))
    (line,) = lines(remarks, WORDS, trees, trees)
    assert line.startswith("all 2 results hold 'tree' and nothing else")
    assert not lines(remarks, WORDS, trees), "a single image may be all tree"
    assert not lines(remarks, WORDS, trees, mixed)
    assert not lines(remarks, Vocabulary.load("sky"), trees, trees), "there is no other class"


def test_results_without_segments(remarks) -> None:
    numbers = np.zeros((4, 5), dtype=np.int64)
    empty = remarks.Prediction(numbers, ())
    dog = remarks.Prediction(numbers + 1, (Segment(1, 2),))
    assert lines(remarks, WORDS, empty, empty) == ["nothing was found in any of 2 images"]
    assert "hold 'dog' and nothing else" in lines(remarks, WORDS, dog, dog)[0]
    assert not lines(remarks, WORDS, dog, empty)


def test_the_demo_prints_them(demo, tiny_model, tmp_path, capsys) -> None:
    config, weights = tiny_model
    for name in ("a\x1b[2Jb.png", "c.png"):
        Image.new("RGB", (60, 40)).save(tmp_path / name)
    code = demo(
        *("--config-file", config, "--input", tmp_path, "--output", tmp_path / "out"),
        *("--vocabulary", "sky, sky blue", "--opts", "MODEL.WEIGHTS", weights),
        *("MODEL.DEVICE", "cpu"),
    )
    said = capsys.readouterr()
    assert code == 0 and "\x1b[2J" not in said.err + said.out
    assert "remark: " in said.err and r"a\x1b[2Jb.png is all black" in said.err
    assert "c.png is all black" in said.err
