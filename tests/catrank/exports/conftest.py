"""Results of all kinds, with what formats stumble over: holes, pieces, overlaps, odd names."""

import numpy as np
import pytest

from catrank import Result
from segcore.drawing.segments import Segment
from segcore.vocabulary import Vocabulary

NAMES = ["sky", 'a "quoted" <name> & more', "Straße, улица", "кот"]
HEIGHT, WIDTH = 23, 31


def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def label_map() -> np.ndarray:
    """Class ids of noise: regions with holes, in pieces, of single pixels, touching by corners."""
    noise = np.random.default_rng(1).random((HEIGHT, WIDTH))
    labels = np.where(noise < 0.3, 3, 0)
    labels[4:20, 6:25] = 1
    labels[8:12, 9:14], labels[14:17, 18:21], labels[9, 11] = 2, 0, 3
    return labels


@pytest.fixture
def semantic() -> Result:
    scores = np.random.default_rng(2).random((HEIGHT, WIDTH)).astype(np.float32)
    vocabulary = Vocabulary.from_class_names(NAMES)
    return Result.semantic("a/photo.jpg", image(), vocabulary, label_map(), pixel_scores=scores)


@pytest.fixture
def panoptic() -> Result:
    ids = label_map() * 300  # more than a byte; 0 is no segment
    segments = (
        Segment(300, 1, is_object=False),
        Segment(600, 2, is_object=True),
        Segment(900, 2, is_object=True),
    )
    vocabulary = Vocabulary.from_class_names(NAMES)
    return Result("photo.jpg", image(), vocabulary, "panoptic", ids.astype(np.int32), segments)


@pytest.fixture
def instance() -> Result:
    """Three objects; the second lies behind the first, the third behind both."""
    masks = np.zeros((3, HEIGHT, WIDTH), dtype=bool)
    masks[0, 2:12, 3:15] = True
    masks[0, 5:7, 6:9] = False
    masks[1, 8:20, 8:30] = True
    masks[2, 9:11, 10:13] = True
    segments = (Segment(1, 0, score=0.9), Segment(2, 3, score=0.75), Segment(3, 3, score=0.5))
    ids = np.where(masks[0], 1, np.where(masks[1], 2, np.where(masks[2], 3, 0)))
    return Result(
        "clip.mp4",
        image(),
        Vocabulary.from_class_names(NAMES),
        "instance",
        ids.astype(np.int32),
        segments,
        object_masks=masks,
        frame=7,
        tracked=True,
    )


@pytest.fixture(params=["semantic", "panoptic", "instance"])
def result(request: pytest.FixtureRequest) -> Result:
    found: Result = request.getfixturevalue(request.param)
    return found
