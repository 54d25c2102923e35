"""Geometry of patch inference."""

import pytest
import torch

from catseg_d2.patches import PatchGeometry, WholePicture, merge_crops, resize
from segcore.errors import UserError


def test_published_geometry() -> None:
    plan = PatchGeometry().plan(480, 854)
    assert plan.size == (640, 640)
    assert plan.origins == [(0, 0), (0, 256), (256, 0), (256, 256)]
    assert plan.cut(torch.zeros(3, 480, 854)).shape == (5, 3, 384, 384)


def test_kept_aspect_ratio_covers_the_picture() -> None:
    plan = PatchGeometry(keep_aspect_ratio=True, global_view=False).plan(300, 1000)
    assert plan.size == (640, 2133)
    covered = torch.zeros(plan.size)
    for y, x in plan.origins:
        covered[y : y + 384, x : x + 384] += 1
        assert y + 384 <= 640 and x + 384 <= 2133
    assert (covered > 0).all()
    assert len(plan.cut(torch.zeros(3, 300, 1000))) == len(plan.origins)


@pytest.mark.parametrize("global_view", [True, False])
def test_logits_that_are_constant_stay_constant(global_view: bool) -> None:
    plan = PatchGeometry(output_size=64, tile=40, global_view=global_view).plan(50, 90)
    crops = len(plan.cut(torch.zeros(3, 50, 90)))
    scores = plan.merge(torch.full((crops, 2, 10, 10), 0.3), (50, 90))
    torch.testing.assert_close(scores, torch.full((2, 50, 90), 0.3).sigmoid())


def test_a_tile_answers_for_its_place() -> None:
    plan = PatchGeometry(output_size=64, tile=32, overlap=0.0, global_view=False).plan(64, 64)
    assert plan.origins == [(0, 0), (0, 32), (32, 0), (32, 32)]
    logits = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 1, 8, 8)
    scores = plan.merge(logits, (64, 64))[0].logit()
    corners = scores[[16, 16, 48, 48], [16, 48, 16, 48]]
    torch.testing.assert_close(corners, torch.arange(4.0))


@pytest.mark.parametrize(
    ("settings", "key"),
    [({"overlap": 1.0}, "OVERLAP"), ({"overlap": -0.1}, "OVERLAP"), ({"tile": 700}, "TILE")],
)
def test_impossible_geometry_is_one_sentence(settings, key) -> None:
    with pytest.raises(UserError, match=key):
        PatchGeometry(**settings)


def test_a_thread_of_a_picture_is_one_sentence() -> None:
    with pytest.raises(UserError, match=r"2560 x 1 pixels.*KEEP_ASPECT_RATIO"):
        PatchGeometry(keep_aspect_ratio=True).plan(1, 2560)


def test_merge_leaves_dropped_classes_at_zero() -> None:
    logits = torch.randn(2, 3, 4, 4)
    kept = torch.tensor([[0, 2, 5], [2, 3, 5]])
    plan = PatchGeometry(output_size=16, tile=16, overlap=0.0).plan(16, 16)
    scores = merge_crops(list(zip(logits, kept, strict=True)), plan, 7, (9, 9))
    assert scores.shape == (7, 9, 9)
    assert (scores[[1, 4, 6]] == 0).all()
    # Class 0 was kept in the tile alone, class 2 in both.
    tile, whole = resize(logits, (16, 16)).sigmoid()
    torch.testing.assert_close(scores[0], resize(tile[None, :1] / 2, (9, 9))[0, 0])
    both = (tile[1] + whole[0]) / 2
    torch.testing.assert_close(scores[2], resize(both[None, None], (9, 9))[0, 0])


def test_whole_picture() -> None:
    image = torch.rand(3, 5, 7)
    assert torch.equal(WholePicture().cut(image)[0], image)
    logits = torch.randn(1, 2, 4, 4)
    scores = WholePicture().merge(logits, (8, 8))
    torch.testing.assert_close(scores, resize(logits.sigmoid(), (8, 8))[0])
