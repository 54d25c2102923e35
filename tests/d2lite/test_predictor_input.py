"""Arrays that DefaultPredictor converts, and those that it refuses; Detectron2 accepts any."""

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.engine import DefaultPredictor
from detectron2.modeling import META_ARCH_REGISTRY

IMAGE = np.random.default_rng(0).integers(2, 255, (5, 6, 3), np.uint8)
GREY = np.repeat(IMAGE[..., :1], 3, axis=2)
ALPHA = np.dstack([IMAGE, np.full(IMAGE.shape[:2], 255, np.uint8)])


class Echo(torch.nn.Linear):
    """Returns the image that it gets, with its channels last."""

    def __init__(self, cfg):
        super().__init__(1, 1)

    def forward(self, inputs):
        return [item["image"].permute(1, 2, 0).numpy() for item in inputs]


@pytest.fixture
def predict(lite_only, monkeypatch, tmp_path):
    monkeypatch.setitem(META_ARCH_REGISTRY._obj_map, "Echo", Echo)
    cfg = get_cfg()
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.DEVICE = "Echo", "cpu"
    cfg.INPUT.MIN_SIZE_TEST = 5
    cfg.MODEL.WEIGHTS = str(tmp_path / "weights.pth")
    torch.save({"model": Echo(cfg).state_dict()}, cfg.MODEL.WEIGHTS)
    return DefaultPredictor(cfg)


@pytest.mark.parametrize(
    "array, expected",
    [
        (IMAGE, IMAGE),
        (IMAGE[..., 0], GREY),
        (IMAGE[..., :1], GREY),
        (ALPHA, IMAGE),
        (IMAGE.astype(np.float32), IMAGE),
        (IMAGE.astype(np.int64), IMAGE),
        (IMAGE.astype(np.uint16), IMAGE),
        (np.zeros((5, 6, 3), np.float32), np.zeros((5, 6, 3))),
    ],
    ids=["uint8", "grey", "one channel", "alpha", "float", "int64", "uint16", "black floats"],
)
def test_converted(predict, array, expected):
    np.testing.assert_array_equal(predict(array), expected)


@pytest.mark.parametrize(
    "array, named",
    [
        ((IMAGE / 255).astype(np.float32), "0 to 1"),
        (IMAGE.astype(np.uint16) * 257, "uint16"),
        (np.where(IMAGE > 100, np.nan, 1.0), "nan"),
        (IMAGE.astype(np.int16) - 100, "int16"),
        (ALPHA - np.uint8(1), "transparent"),
        (IMAGE[..., :2], "channels"),
        (IMAGE.transpose(2, 0, 1), "channels"),
        (IMAGE > 3, "bool"),
        (IMAGE[:0], "an image is an array"),
        (torch.from_numpy(IMAGE), "an image is an array"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refused(predict, array, named):
    with pytest.raises(ValueError, match=named) as caught:
        predict(array)
    assert "\n" not in str(caught.value)
