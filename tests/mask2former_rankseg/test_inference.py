"""Predictions from logits, compared with reference outputs and a direct implementation."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mask2former_rankseg.inference import (
    ImageSizes,
    instances,
    mask_boxes,
    panoptic,
    semantic,
    warn_of_no_segment,
)
from segcore.inference.predictions import SCORES, PredictionKind

sys.path.insert(0, str(Path(__file__).parents[1]))
from deterministic import noise

WHOLE = ImageSizes((192, 256), (192, 256), (192, 256))


@pytest.fixture(scope="module")
def unit(golden):
    return np.load(golden / "mask2former_rankseg" / "inference_unit.npz")


@pytest.fixture(scope="module")
def about(unit) -> dict:
    return json.loads(str(unit["meta"]))


@pytest.fixture(scope="module")
def blobs(about):
    """40 queries whose masks are blobs: class logits (40, 151), mask logits (40, 48, 64)."""
    u = noise("m2f/pan/blob", (40, 3)) / 3**0.5 / 2 + 0.5
    y, x = (torch.arange(48) + 0.5) / 48, (torch.arange(64) + 0.5) / 64
    far = (y[:, None] - u[:, 0, None, None]) ** 2 + (x - u[:, 1, None, None]) ** 2
    masks = (6 * (1 - far / (0.1 + 0.2 * u[:, 2, None, None]) ** 2)).clamp(min=-8)
    classes = 0.5 * noise("m2f/pan/cls", (40, 151))
    strength = 5 + 6 * noise("m2f/pan/strength", (40,)).abs() / 3**0.5
    for query in range(40):
        classes[query, about["pick"][query % 12]] += strength[query]
    return classes, masks


def test_semantic(blobs, unit) -> None:
    found = semantic(*blobs, WHOLE, SCORES, torch.arange(150))["sem_seg"]
    expected = torch.from_numpy(unit["sem_seg"])
    assert found.shape == (150, 192, 256)
    assert (found[::5, ::8, ::8] - expected).abs().max() <= 5e-5 * expected.max()


@pytest.mark.filterwarnings("ignore:no query is a segment")
@pytest.mark.parametrize("name", ["default", "loose", "empty"])
def test_panoptic(blobs, unit, about, name: str) -> None:
    thresholds = about[f"thresholds/{name}"]
    segments, info = panoptic(
        *blobs,
        WHOLE,
        about["thing_ids"],
        score_threshold=thresholds["object_mask"],
        overlap_threshold=thresholds["overlap"],
    )
    assert info == about[f"segments_info/{name}"]
    expected = torch.from_numpy(unit[f"panoptic_seg/{name}"])
    assert segments.dtype == torch.int32
    assert (segments == expected).float().mean() >= 1 - 5e-4


@pytest.mark.parametrize(("name", "filtered"), [("instance_only", False), ("with_panoptic", True)])
def test_instances(blobs, unit, about, name: str, filtered: bool) -> None:
    things = about["thing_ids"] if filtered else None
    scores, classes, masks = instances(*blobs, WHOLE, 30, things)
    expected = {key: torch.from_numpy(unit[f"instances/{name}/{key}"]) for key in ("scores",)}
    torch.testing.assert_close(scores, expected["scores"], rtol=1e-4, atol=1e-6)
    assert classes.tolist() == unit[f"instances/{name}/classes"].tolist()
    areas = masks.flatten(1).sum(dim=1)
    assert (areas - torch.from_numpy(unit[f"instances/{name}/mask_area"])).abs().max() <= 5


# ------------------------------------------------------------------ without reference outputs


def queries(number: int = 7, classes: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(number)
    class_logits = 3 * torch.randn(number, classes + 1, generator=generator)
    coarse = torch.randn(1, number, 4, 5, generator=generator)
    return class_logits, 4 * F.interpolate(coarse, (16, 24), mode="bilinear")[0]


SIZES = [
    ImageSizes((64, 96), (64, 96), (64, 96)),
    ImageSizes((64, 96), (50, 77), (50, 77)),
    ImageSizes((64, 96), (50, 77), (33, 120)),
]


def full_size(masks: torch.Tensor, sizes: ImageSizes) -> torch.Tensor:
    masks = F.interpolate(masks[None], sizes.padded, mode="bilinear")
    masks = masks[..., : sizes.image[0], : sizes.image[1]]
    return F.interpolate(masks, sizes.prediction, mode="bilinear")[0]


@pytest.mark.parametrize("sizes", SIZES)
def test_semantic_is_the_sum_over_queries(sizes: ImageSizes) -> None:
    classes, masks = queries()
    found = semantic(classes, masks, sizes, SCORES, torch.arange(5))["sem_seg"]
    weights = classes.softmax(dim=-1)[:, :-1]
    expected = torch.einsum("qc,qhw->chw", weights, full_size(masks, sizes).sigmoid())
    torch.testing.assert_close(found, expected)
    labels = semantic(classes, masks, sizes, PredictionKind("labels"), torch.arange(5))
    assert labels.keys() == {"sem_seg_labels"}
    assert torch.equal(labels["sem_seg_labels"], found.argmax(dim=0))


def test_classes_that_were_not_selected_have_no_score() -> None:
    classes, masks = queries()
    selected = torch.tensor([3, 1])
    dropped = classes.clone()
    dropped[:, [0, 2, 4]] = -100.0
    some = semantic(dropped, masks, SIZES[0], SCORES, selected)["sem_seg"]
    every = semantic(dropped, masks, SIZES[0], SCORES, torch.arange(5))["sem_seg"]
    torch.testing.assert_close(some, every)
    assert (some[[0, 2, 4]] == 0).all()


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("thresholds", [(0.0, 0.0), (0.3, 0.4), (0.6, 0.5)])
def test_panoptic_query_by_query(sizes: ImageSizes, thresholds: tuple[float, float]) -> None:
    """The rule of the paper, a query and a segment at a time."""
    classes, masks = queries(12)
    things = {0, 3}
    scores, labels = classes.softmax(dim=-1).max(dim=-1)
    kept = [q for q in range(12) if labels[q] != 5 and scores[q] > thresholds[0]]
    inside = full_size(masks, sizes).sigmoid()[kept]
    owner = (scores[kept][:, None, None] * inside).argmax(dim=0)
    expected, expected_info, stuff = torch.zeros(sizes.prediction, dtype=torch.int32), [], {}
    for index, query in enumerate(kept):
        won, mask, label = owner == index, inside[index] >= 0.5, int(labels[query])
        if not (won & mask).any() or won.sum() / mask.sum() < thresholds[1]:
            continue
        number = stuff.get(label)
        if number is None:
            number = len(expected_info) + 1
            entry = {"id": number, "isthing": label in things, "category_id": label}
            expected_info.append(entry)
            if label not in things:
                stuff[label] = number
        expected[won & mask] = number
    segments, info = panoptic(
        classes,
        masks,
        sizes,
        things,
        score_threshold=thresholds[0],
        overlap_threshold=thresholds[1],
    )
    assert info
    assert info == expected_info
    assert torch.equal(segments, expected)


@pytest.mark.parametrize(("score", "overlap", "key"), [(1.1, 0.0, "OBJECT"), (0.0, 9.0, "OVERLAP")])
def test_thresholds_that_filter_every_segment_warn(score, overlap, key: str) -> None:
    warn_of_no_segment.cache_clear()
    with pytest.warns(UserWarning, match=f"MODEL.MASK_FORMER.TEST.{key}.*filters all"):
        segments, info = panoptic(
            *queries(), SIZES[0], {0}, score_threshold=score, overlap_threshold=overlap
        )
    assert info == [] and (segments == 0).all()


def test_instances_of_things_alone() -> None:
    classes, masks = queries()
    every = instances(classes, masks, SIZES[1], 100)
    assert len(every[0]) == 7 * 5
    assert (every[0].diff() <= 0).all()
    scores, found, inside = instances(classes, masks, SIZES[1], 100, {1, 4})
    assert set(found.tolist()) == {1, 4} and len(found) == 14
    kept = torch.isin(every[1], torch.tensor([1, 4]))
    torch.testing.assert_close(scores, every[0][kept])
    assert torch.equal(inside, every[2][kept])


def test_no_instance_of_a_thing() -> None:
    scores, classes, masks = instances(*queries(), SIZES[0], 100, set())
    assert (len(scores), len(classes), masks.shape) == (0, 0, (0, 64, 96))


def test_boxes_of_masks() -> None:
    """As in Detectron2: x1, y1 are one more than the last pixel; the box of no pixel is zeros."""
    masks = torch.zeros(4, 5, 7, dtype=torch.bool)
    masks[0, 1:3, 2:6] = True
    masks[1, 4, 6] = masks[1, 0, 0] = True
    masks[2, 3, 4] = True
    boxes = [[2, 1, 6, 3], [0, 0, 7, 5], [4, 3, 5, 4], [0, 0, 0, 0]]
    assert mask_boxes(masks).tolist() == boxes
    assert mask_boxes(masks[:0]).shape == (0, 4)
