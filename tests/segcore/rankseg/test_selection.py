"""Selection, labels as ranks, oracles."""

from pathlib import Path

import numpy as np
import pytest
import torch

from segcore.errors import UserError
from segcore.rankseg.labels import pixels_to_ranks, regions_to_ranks
from segcore.rankseg.oracle import drop_absent, oracle_logits
from segcore.rankseg.ranker import Selection
from segcore.rankseg.scores import DROPPED
from segcore.rankseg.selection import (
    confident_ranks,
    gather_rows,
    presence,
    select_top,
    with_no_object,
)


def test_the_most_probable_first_and_no_gradient() -> None:
    logits = torch.tensor([[0.1, 3.0, -1.0, 3.0], [9.0, 1.0, 2.0, 0.0]], requires_grad=True)
    ids = select_top(logits, 3)
    assert ids.tolist() == [[1, 3, 0], [0, 2, 1]]  # of equals the lower id
    assert not ids.requires_grad
    assert with_no_object(ids, 4).tolist() == [[1, 3, 0, 4], [0, 2, 1, 4]]


@pytest.mark.parametrize("kappa", [1, 4])
def test_from_one_class_to_all(kappa: int) -> None:
    assert select_top(torch.randn(2, 4), kappa).shape == (2, kappa)


@pytest.mark.parametrize("kappa", [0, 5])
def test_kappa_beyond_the_classes(kappa: int) -> None:
    with pytest.raises(UserError, match=rf"select {kappa} of 4 .*MODEL.RANKSEG.TOPK to 1 \.\.\. 4"):
        select_top(torch.randn(2, 4), kappa)


def test_dynamic_kappa_keeps_the_confident_and_at_least_one() -> None:
    logits = torch.tensor([[2.0, -2.0, 1.0], [-5.0, -4.0, -3.0]])
    ids = select_top(logits, 3)
    assert confident_ranks(logits, ids, 0.5).tolist() == [[True, True, False], [True, False, False]]
    assert confident_ranks(logits, ids, 0.0).all()


def test_ranks_that_no_image_keeps_are_cut_off() -> None:
    ids = torch.tensor([[3, 1, 0], [2, 0, 1]])
    kept = torch.tensor([[True, False, False], [True, True, False]])
    trimmed = Selection(ids, kept).trimmed()
    assert trimmed.ids.tolist() == [[3, 1], [2, 0]]
    assert trimmed.kept.tolist() == [[True, False], [True, True]]
    assert Selection(ids, None).trimmed() == (ids, None)


def test_rows_of_all_images_or_of_each() -> None:
    rows, ids = torch.randn(2, 4, 3), torch.tensor([[3, 1], [0, 2]])
    found = gather_rows(rows, ids)
    assert all(torch.equal(found[i], rows[i, ids[i]]) for i in range(2))
    assert torch.equal(gather_rows(rows[:1], ids), rows[0, ids])


def test_presence_of_pixels_and_regions() -> None:
    pixels = torch.tensor([[0, 2], [255, -1]])
    nothing = torch.empty(0, dtype=torch.int64)
    regions = torch.tensor([1, 1])
    assert presence([pixels, nothing, regions], 3).int().tolist() == [
        [1, 0, 1],
        [0, 0, 0],
        [0, 1, 0],
    ]


def test_golden_pixels(golden: Path) -> None:
    with np.load(golden / "per_pixel" / "label_remap.npz") as arrays:
        ids, labels, expected = (
            torch.from_numpy(arrays[name]).long() for name in ("topk_index", "labels", "remapped")
        )
    assert torch.equal(pixels_to_ranks(labels, ids, 12, 255), expected)


def test_pixels_outside_the_selection_are_ignored() -> None:
    labels = torch.tensor([[[0, 1, 2, 3, 255, -1]]])
    ranks = pixels_to_ranks(labels, torch.tensor([[3, 1]]), 4, 255)
    assert ranks.tolist() == [[[255, 1, 255, 0, 255, 255]]]


def test_regions_outside_the_selection_are_left_out() -> None:
    ids = torch.tensor([[3, 1], [0, 2]])
    labels = [torch.tensor([1, 0, 3, 1]), torch.empty(0, dtype=torch.int64)]
    ranks, kept = regions_to_ranks(labels, ids, 4)
    assert [r.tolist() for r in ranks] == [[1, 0, 1], []]
    assert [k.tolist() for k in kept] == [[True, False, True, True], []]


def test_the_oracle_of_evaluation_keeps_no_object() -> None:
    present = torch.tensor([[True, False], [False, False]])
    scores = torch.randn(2, 5, 3)
    before = scores.clone()
    masked = drop_absent(scores, present)
    assert torch.equal(scores, before)  # not in place
    assert torch.equal(masked[0][:, [0, 2]], scores[0][:, [0, 2]])
    assert (masked[0][:, 1] == DROPPED).all() and (masked[1][:, :2] == DROPPED).all()
    assert (drop_absent(scores[..., :2], present)[1] == DROPPED).all()


def test_the_oracle_of_training_selects_present_classes() -> None:
    present = torch.tensor([[False, True, False, True], [False] * 4])
    logits = oracle_logits(present)
    ids = select_top(logits, 4)
    kept = confident_ranks(logits, ids, 0.5)
    assert ids[0, kept[0]].tolist() == [1, 3]
    assert ids[1, kept[1]].tolist() == [0]  # an image without labels
