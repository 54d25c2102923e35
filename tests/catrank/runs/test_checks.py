"""Blank images and results that are all alike give one warning; others give none."""

import numpy as np
import pytest

from catrank import Result
from catrank.runs import checks
from segcore.drawing.segments import Segment
from segcore.vocabulary import Vocabulary

VOCABULARY = Vocabulary.load("sky, tree, dog")
IMAGE = np.zeros((4, 5, 3), dtype=np.uint8)


def semantic(labels: np.ndarray) -> Result:
    return Result.semantic("it", IMAGE, VOCABULARY, labels)


@pytest.mark.parametrize(
    ("low", "high", "color"),
    [(0, 0, "black"), (0, 3, "black"), (255, 255, "white"), (252, 255, "white"), (0, 4, None),
     (251, 255, None), (0, 255, None), (128, 128, None)],
)  # fmt: skip
def test_images_without_content(low: int, high: int, color: str | None) -> None:
    image = np.full((4, 5, 3), low, dtype=np.uint8)
    image[2, 3, 1] = high
    assert checks.blank_color(image) == color


def warnings_of(vocabulary: Vocabulary, *results: Result) -> list[str]:
    run = checks.ResultChecks(vocabulary)
    for result in results:
        run.add(result)
    return list(run.warnings())


def test_one_class_in_all_results() -> None:
    trees = semantic(np.ones((4, 5), dtype=np.int64))
    mixed = semantic(np.arange(2).repeat(10).reshape(4, 5))
    (line,) = warnings_of(VOCABULARY, trees, trees)
    assert line.startswith("all 2 results hold 'tree' and nothing else")
    assert not warnings_of(VOCABULARY, trees), "a single image may be all tree"
    assert not warnings_of(VOCABULARY, trees, mixed)
    assert not warnings_of(Vocabulary.load("sky"), trees, trees), "there is no other class"


def test_results_without_segments() -> None:
    numbers = np.zeros((4, 5), dtype=np.int64)
    empty = Result("empty", IMAGE, VOCABULARY, "panoptic", numbers, ())
    dog = Result("dog", IMAGE, VOCABULARY, "panoptic", numbers + 1, (Segment(1, 2),))
    assert warnings_of(VOCABULARY, empty, empty) == ["no segment was found in any of 2 images"]
    assert "hold 'dog' and nothing else" in warnings_of(VOCABULARY, dog, dog)[0]
    assert not warnings_of(VOCABULARY, dog, empty)
