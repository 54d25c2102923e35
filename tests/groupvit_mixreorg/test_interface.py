"""CatRank's library and command line, with class names and with segments."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
from groupvit_models import build, small_config

import catrank
from segcore.errors import UserError


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("weights") / "model.pth"
    torch.save({"model": build().state_dict()}, path)
    return str(path)


@pytest.fixture
def image() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_class_names(weights, image) -> None:
    model = catrank.load(small_config(MODEL__WEIGHTS=weights), classes="dog, sky, red circle")
    assert model.open_vocabulary and model.class_names == ("dog", "sky", "red circle")
    result = model.segment(image)
    assert result.labels.shape == (40, 60) and set(np.unique(result.labels)) <= {0, 1, 2}
    other = model.segment(image, classes=["grass", "sand"])
    assert other.vocabulary.names == ("grass", "sand")
    several = list(model.segment([image, image.resize((32, 32))]))
    assert np.array_equal(several[0].labels, result.labels)


def test_segments_are_drawn(weights, image) -> None:
    cfg = small_config(MODEL__WEIGHTS=weights, MODEL__ZERO_SHOT__SEGMENTS=True)
    model = catrank.load(cfg)
    assert model.class_names == ("segment 1", "segment 2", "segment 3")
    result = model.segment(image)
    assert set(np.unique(result.labels)) <= {0, 1, 2}
    assert result.overlay().size == (60, 40)
    with pytest.raises(UserError, match=r"ZERO_SHOT\.SEGMENTS is True"):
        model.segment(image, classes="dog, sky")
