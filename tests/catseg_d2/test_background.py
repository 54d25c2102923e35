"""The zero-shot protocol of a background without words, for CAT-Seg."""

import sys
from pathlib import Path

import pytest
import torch

from segcore.errors import UserError

sys.path.insert(0, str(Path(__file__).parents[1]))
import deterministic

NAMES = ["sky", "tree", "dog", "cat", "road"]
KEY = "MODEL.ZERO_SHOT.BACKGROUND_THRESHOLD"


def predict(model, names: list[str]) -> dict[str, torch.Tensor]:
    model.set_vocabulary(names)
    with torch.no_grad():
        return model([{"image": deterministic.image("background", 60, 90)}])[0]


@pytest.mark.parametrize("sliding", [False, True])
def test_pixels_below_the_threshold_are_background(tiny, sliding: bool) -> None:
    windows = ("TEST.SLIDING_WINDOW", sliding)
    scores = predict(tiny(*windows), NAMES)["sem_seg"]
    threshold = float(scores.amax(dim=0).median())
    with_background = predict(tiny(KEY, threshold, *windows), ["background", *NAMES])["sem_seg"]
    torch.testing.assert_close(with_background[1:], scores, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(with_background[0], torch.full_like(scores[0], threshold))
    share = (with_background.argmax(dim=0) == 0).float().mean()
    assert 0.4 < share < 0.6


def test_labels_and_dropped_classes(tiny) -> None:
    options = (KEY, 0.3, "MODEL.SEM_SEG_HEAD.MAX_CLASSES", 3)
    scores = predict(tiny(*options), ["background", *NAMES])["sem_seg"]
    labels = predict(tiny(*options, "TEST.SEM_SEG_OUTPUT", "labels"), ["background", *NAMES])
    assert torch.equal(labels["sem_seg_labels"], scores.argmax(dim=0))
    assert ((scores > 0).sum(dim=0) == 4).all()


def test_prompts_of_the_protocol(tiny) -> None:
    model = tiny(KEY, 0.3, "MODEL.PROMPT_ENSEMBLE_TYPE", "photo")
    other = predict(tiny(KEY, 0.3), ["background", *NAMES])["sem_seg"]
    assert (predict(model, ["background", *NAMES])["sem_seg"] - other).abs().max() > 1e-6


def test_errors(tiny) -> None:
    model = tiny(KEY, 0.3)
    for names in (NAMES, ["background"]):
        with pytest.raises(UserError, match='whose first class is "background"'):
            model.set_vocabulary(names)
    image = {"image": deterministic.image("background", 60, 90), "vocabulary": "sky, tree"}
    with pytest.raises(UserError, match='whose first class is "background"'):
        model([image])
    for wrong in (-0.1, 1.0, 2.0):
        with pytest.raises(UserError, match=rf"BACKGROUND_THRESHOLD is {wrong}; .*from 0 to 1"):
            tiny(KEY, wrong)
