"""Inference equals its plain formulation: logits of all classes at all pixels, then a softmax.

They are summed over windows, divided by the number of windows, and resized.
"""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from per_pixel import PerPixelSegmenter
from per_pixel.inference import Sliding
from segcore.engine.tta import SemanticTTA
from segcore.errors import UserError
from segcore.inference import unmerged
from segcore.inference.predictions import PredictionKind
from segcore.inference.windows import Window
from segcore.rankseg.scores import DROPPED

sys.path.insert(0, str(Path(__file__).parents[1]))
import deterministic
from per_pixel_models import CLASSES, HEADS, model

ROUNDING = {"atol": 1e-5, "rtol": 1e-4}  # of logits of size 10
SLIDING = {"window": (24, 32), "stride": (17, 20)}
PRESENT = torch.tensor([5, 0, 3, 3])


def item(rows: int = 40, columns: int = 57, name: str = "per_pixel", **size: int) -> dict:
    """Return an image whose contrast grows from left to right, so that windows differ."""
    image = deterministic.image(name, rows, columns) * torch.linspace(0.1, 1, columns)
    return {"image": image, "instances": SimpleNamespace(gt_classes=PRESENT)} | size


def plain_windows(height: int, width: int, sliding: Sliding) -> list[Window]:
    """The published loops."""
    tall, wide = sliding.window if any(sliding.window) else (height, width)
    down, right = sliding.stride if any(sliding.stride) else (height, width)
    found = []
    for row in range(max(height - tall + down - 1, 0) // down + 1):
        for column in range(max(width - wide + right - 1, 0) // right + 1):
            bottom, end = min(row * down + tall, height), min(column * right + wide, width)
            found.append(Window(max(bottom - tall, 0), bottom, max(end - wide, 0), end))
    return found


def plain(of: PerPixelSegmenter, inputs: dict) -> Tensor:
    """Return probabilities (K, height, width) of an image alone."""
    image = (inputs["image"] - of.pixel_mean) / of.pixel_std
    height, width = image.shape[-2:]
    padded = F.pad(
        image,
        (0, max(of.sliding.canvas[1] - width, 0), 0, max(of.sliding.canvas[0] - height, 0)),
    )
    present = torch.zeros(1, CLASSES, dtype=torch.bool)
    present[0, inputs["instances"].gt_classes] = True
    head = of.decode_head
    total = torch.zeros(1, head.num_columns, *padded.shape[-2:])
    count = torch.zeros(padded.shape[-2:])
    for window in plain_windows(*padded.shape[-2:], of.sliding):
        scores, classes, _ = head(of.backbone(window.of(padded)[None]), present)
        if classes is not None:
            everything = torch.full((1, CLASSES, *scores.shape[-2:]), DROPPED)
            index = classes[:, :, None, None].expand_as(scores)
            scores = everything.scatter(1, index, scores)
        window.of(total).add_(interpolate(scores, window.size, of))
        window.of(count).add_(1)
    assert count.min() >= 1
    logits = (total / count)[..., :height, :width]
    size = inputs.get("height", height), inputs.get("width", width)
    logits = interpolate(logits, size, of)[0]
    if not head.scores_classes:
        distances = torch.cdist(head.classes(), logits.flatten(1).T)
        return (-head.comparison.scale * distances).softmax(dim=0).unflatten(1, size)
    if of.only_present:
        logits[~present[0]] = DROPPED
    return logits.softmax(dim=0)


def interpolate(maps: Tensor, size: tuple[int, int], of: PerPixelSegmenter) -> Tensor:
    return F.interpolate(maps, size, mode="bilinear", align_corners=of.align_corners)


OPTIONS: dict[str, dict[str, Any]] = {
    "whole": {},
    "windows": SLIDING,
    "aligned corners": {"align_corners": True, **SLIDING},
    "canvas": {"canvas": (48, 64), "window": (24, 32), "stride": (24, 32)},
    "one axis": {"window": (24, 100), "stride": (24, 100)},
    "present": {"only_present": True, **SLIDING},
}


@torch.no_grad()
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("options", OPTIONS)
def test_scores(head: str, options: str) -> None:
    of = model(head, **OPTIONS[options])
    for inputs in (item(), item(23, 90), item(24, 32)):
        inputs |= {"height": 31, "width": 40} if inputs["image"].shape[1] == 40 else {}
        (prediction,) = of([inputs])
        expected = plain(of, inputs)
        if head == "embeddings" and of.only_present:  # others have the score 0
            absent = torch.ones(CLASSES, dtype=torch.bool).index_fill(0, PRESENT, False)
            expected[absent] = 0
        torch.testing.assert_close(prediction["sem_seg"], expected, **ROUNDING)


@torch.no_grad()
@pytest.mark.parametrize("head", HEADS)
def test_labels_and_top_k_are_those_of_the_scores(head: str) -> None:
    inputs = item(height=33, width=41)
    scores = model(head, **SLIDING)([inputs])[0]["sem_seg"]
    found = model(head, **SLIDING, prediction_kind=PredictionKind("labels", 2))([inputs])[0]
    assert "sem_seg" not in found
    assert torch.equal(found["sem_seg_labels"], scores.argmax(dim=0))
    torch.testing.assert_close(found["top_k_scores"], scores.topk(2, dim=0).values)


@torch.no_grad()
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("options", OPTIONS)
def test_labels_alone_need_no_probabilities(head: str, options: str, monkeypatch) -> None:
    inputs = item(height=33, width=41)
    scores = model(head, **OPTIONS[options])([inputs])[0]["sem_seg"]
    of = model(head, **OPTIONS[options], prediction_kind=PredictionKind("labels"))
    monkeypatch.setattr(type(of.decode_head), "class_scores", None)
    for pixels in (1 << 14, 50):
        monkeypatch.setattr(unmerged, "PIXELS", pixels)
        (found,) = of([inputs])
        assert {*found} - {"category_ids", "category_scores"} == {"sem_seg_labels"}
        assert torch.equal(found["sem_seg_labels"], scores.argmax(dim=0))


@torch.no_grad()
@pytest.mark.parametrize("output", ["scores", "labels"])
def test_an_image_without_ground_truth_has_the_first_class(output: str) -> None:
    of = model("embeddings", only_present=True, prediction_kind=PredictionKind(output))
    inputs = item() | {"instances": SimpleNamespace(gt_classes=torch.tensor([], dtype=torch.long))}
    (found,) = of([inputs])
    assert not (found["sem_seg"] if output == "scores" else found["sem_seg_labels"]).any()


@torch.no_grad()
@pytest.mark.parametrize("head", HEADS)
def test_a_batch_of_any_sizes_equals_its_images_alone(head: str, monkeypatch) -> None:
    """Crops of one size pass through the network together, a few at a time."""
    monkeypatch.setattr("per_pixel.inference.PIXELS", 3 * 24 * 32)
    of, sizes = model(head, **SLIDING), []
    of.backbone.register_forward_pre_hook(lambda _, args: sizes.append(tuple(args[0].shape)))
    batch = [item(), item(name="other"), item(20, 57), item(60, 32, height=7)]
    together = of(batch)
    assert sizes[0] == (3, 3, 24, 32) and {shape[2:] for shape in sizes} == {(24, 32), (20, 32)}
    for inputs, prediction in zip(batch, together, strict=True):
        (alone,) = of([inputs])
        assert alone.keys() == prediction.keys()
        for name, value in alone.items():
            torch.testing.assert_close(prediction[name], value, **ROUNDING)


@torch.no_grad()
def test_categories_are_the_maximum_over_windows() -> None:
    of, inputs = model("rankseg", **SLIDING), item()
    image = (inputs["image"] - of.pixel_mean) / of.pixel_std
    logits, selected = [], []
    for window in plain_windows(40, 57, of.sliding):
        scores = of.decode_head(of.backbone(window.of(image)[None]))
        logits.append(scores.category_logits[0])
        selected.append(scores.classes[0])
    (prediction,) = of([inputs])
    best = torch.stack(logits).amax(dim=0).sigmoid()
    torch.testing.assert_close(prediction["category_scores"], best)
    ids = prediction["category_ids"]
    assert sorted(ids.tolist()) == torch.cat(selected).unique().tolist()
    assert len(ids) > 3 and torch.equal(best[ids], best[ids].sort(descending=True).values)
    (whole,) = model("rankseg")([inputs])
    assert whole["category_ids"].shape == (3,)
    assert torch.equal(whole["category_ids"], whole["category_scores"].topk(3).indices)


@torch.no_grad()
@pytest.mark.parametrize("head", ["linear", "rankseg", "embeddings"])
@pytest.mark.parametrize("output", ["scores", "labels"])
def test_augmentation_averages_probabilities(head: str, output: str) -> None:
    of = model(head, **SLIDING, prediction_kind=PredictionKind(output))
    augmented = SemanticTTA(of, [22, 40], 100, flip=True)
    inputs = item(height=30, width=44)
    expected = torch.zeros(CLASSES, 30, 44)
    for view, scores in enumerate(plain(of, each) for each in augmented._views(inputs)):
        expected += scores.flip(-1) if view % 2 else scores
    (prediction,) = augmented([inputs])
    if output == "scores":
        torch.testing.assert_close(prediction["sem_seg"], expected / 4, **ROUNDING)
    else:
        assert (prediction["sem_seg_labels"] == expected.argmax(dim=0)).float().mean() > 0.999


@torch.no_grad()
def test_label_maps_need_no_map_of_all_classes(monkeypatch) -> None:
    """No tensor has a number for every class and pixel of the prediction."""
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            if isinstance(result, Tensor):
                largest = max(largest, result.numel())
            return result

    inputs = item(40, 40, height=400, width=400)
    for head in HEADS:
        of = model(head, prediction_kind=PredictionKind("labels"))
        with Watch():
            (prediction,) = of([inputs])
        assert prediction["sem_seg_labels"].shape == (400, 400)
        assert largest < 400 * 400 * 2


@pytest.mark.parametrize("head", HEADS)
def test_many_classes_are_merged_in_small_windows(head: str, monkeypatch) -> None:
    of, inputs = model(head), item()
    (expected,) = of([inputs])
    monkeypatch.setattr(unmerged, "VALUES", 50 * CLASSES)  # fewer pixels than a row has
    (prediction,) = of([inputs])
    torch.testing.assert_close(prediction["sem_seg"], expected["sem_seg"])


@pytest.mark.parametrize("size", [(40, 57), (24, 32), (25, 33), (10, 100), (1, 1)])
@pytest.mark.parametrize(
    "sliding", [Sliding(**SLIDING), Sliding((24, 32), (24, 32)), Sliding((5, 4), (1, 3)), Sliding()]
)
def test_windows_are_the_published_ones(size: tuple[int, int], sliding: Sliding) -> None:
    assert sliding.windows(size) == plain_windows(*size, sliding)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": (24, 32)}, r"STRIDE is \[0, 0\]; it has to be 1 or more"),
        ({"window": (24, 32), "stride": (24, 0)}, r"STRIDE is \[24, 0\]; it has to be 1 or more"),
        ({"window": (24, 32), "stride": (25, 32)}, r"STRIDE is \[25, 32\].*at most the WINDOW"),
        ({"window": (24, 0), "stride": (1, 1)}, r"WINDOW is \[24, 0\]; give both sides"),
        ({"window": (24,), "stride": (1, 1)}, r"WINDOW is \[24\]; it has to be two numbers"),
        ({"canvas": (-1, 5)}, r"CANVAS is \[-1, 5\]; it has to be two numbers"),
    ],
)
def test_wrong_windows_are_refused(options: dict, message: str) -> None:
    with pytest.raises(UserError, match=rf"MODEL\.PER_PIXEL\.TEST\.{message}"):
        Sliding(**options, section="MODEL.PER_PIXEL.TEST")
