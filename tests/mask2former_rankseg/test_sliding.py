"""Sliding windows: the mean of the windows' predictions, in every form of the output."""

import pytest
import torch
import torch.nn.functional as F

from mask2former_rankseg import MaskFormer, sliding
from segcore.errors import UserError
from segcore.inference.sliding import Sliding

WINDOWS = {
    "MODEL.MASK_FORMER.TEST.WINDOW": [64, 96],
    "MODEL.MASK_FORMER.TEST.STRIDE": [40, 64],
}
RANKSEG = {"MODEL.RANKSEG.FLAG": True, "MODEL.RANKSEG.TOPK": 5}


def image(rows: int, columns: int, **size: int) -> dict:
    torch.manual_seed(rows)
    return {"image": torch.rand(3, rows, columns) * 255, **size}


def mean_of_windows(model: MaskFormer, item: dict) -> torch.Tensor:
    """The definition: predict every window, and average where they overlap."""
    pixels = item["image"]
    height, width = pixels.shape[-2:]
    total, count = torch.zeros(12, height, width), torch.zeros(height, width)
    configured, model.sliding = model.sliding, Sliding()
    for window in configured.windows((height, width)):
        window.of(total).add_(model([{"image": window.of(pixels)}])[0]["sem_seg"])
        window.of(count).add_(1)
    model.sliding = configured
    size = (item.get("height", height), item.get("width", width))
    return F.interpolate((total / count)[None], size, mode="bilinear")[0]


@pytest.mark.parametrize("ranked", [False, True])
@pytest.mark.parametrize("at_once", [1, 1 << 21])
@torch.no_grad()
def test_the_mean_of_the_windows(monkeypatch, tiny, ranked: bool, at_once: int) -> None:
    monkeypatch.setattr(sliding, "PIXELS", at_once)
    model = tiny(WINDOWS | (RANKSEG if ranked else {}))
    items = [image(100, 150), image(70, 110, height=50, width=90), image(40, 60)]
    found = model(items)
    for item, prediction in zip(items, found, strict=True):
        expected = mean_of_windows(model, item)
        torch.testing.assert_close(prediction["sem_seg"], expected, atol=1e-5, rtol=1e-4)
        assert ("category_ids" in prediction) == ranked
        if ranked:
            scores = prediction["category_scores"]
            assert (scores[prediction["category_ids"]].diff() <= 0).all()
            assert len(prediction["category_ids"]) >= 5


@torch.no_grad()
def test_labels_and_averages_over_views(tiny) -> None:
    model, item = tiny(WINDOWS), image(100, 150, height=80, width=120)
    scores = model([item])[0]["sem_seg"]
    labels = tiny(WINDOWS | {"TEST.SEM_SEG_OUTPUT": "labels"})([item])[0]["sem_seg_labels"]
    assert (labels == scores.argmax(dim=0)).float().mean() > 0.999
    (unmerged,) = model.unmerged_predictions([item])
    assert unmerged.size == (80, 120) and unmerged.num_classes == 12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"MODEL.MASK_FORMER.TEST.STRIDE": [0, 0]}, r"TEST\.STRIDE is \[0, 0\]; it has to be 1"),
        ({"MODEL.MASK_FORMER.TEST.WINDOW": [64]}, r"MASK_FORMER\.TEST\.WINDOW is \[64\]; it has"),
        ({"MODEL.MASK_FORMER.TEST.INSTANCE_ON": True}, "windows are for the semantic task alone"),
    ],
)
def test_bad_windows(tiny, options: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        tiny(WINDOWS | options)
