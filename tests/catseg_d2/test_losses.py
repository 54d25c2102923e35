"""The losses, compared with their definitions."""

import pytest
import torch
import torch.nn.functional as F

from catseg_d2.losses import candidate_classes, cost_loss, mask_loss, relabel

IGNORE = 255


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    labels = torch.randint(0, 4, (2, 6, 5))
    labels[0, :2] = IGNORE
    return torch.randn(2, 4, 6, 5, requires_grad=True), labels


@pytest.mark.parametrize("mask_ignored", [False, True])
def test_mask_loss_equals_one_hot_targets(mask_ignored: bool) -> None:
    logits, labels = batch()
    valid = labels != IGNORE
    target = F.one_hot(labels.where(valid, 0), 4).permute(0, 3, 1, 2) * valid[:, None]
    direct = F.binary_cross_entropy_with_logits(logits, target.float(), reduction="none")
    direct = direct.permute(0, 2, 3, 1)[valid].mean() if mask_ignored else direct.mean()
    loss = mask_loss(logits, labels, IGNORE, mask_ignored)
    torch.testing.assert_close(loss, direct)
    found, expected = (torch.autograd.grad(x, logits)[0] for x in (loss, direct))
    torch.testing.assert_close(found, expected)


def test_nothing_but_ignored_pixels_gives_a_finite_loss() -> None:
    logits, labels = batch()
    labels[:] = IGNORE
    assert mask_loss(logits, labels, IGNORE, mask_ignored=True) == 0
    torch.testing.assert_close(mask_loss(logits, labels, IGNORE), F.softplus(logits).mean())
    assert cost_loss(logits[:, :, None], labels, IGNORE, torch.tensor(10.0)) == 0


def test_cost_loss_is_cross_entropy() -> None:
    logits, labels = batch()
    expected = F.cross_entropy(3.0 * logits, labels, ignore_index=IGNORE)
    found = cost_loss(logits[:, :, None], labels, IGNORE, torch.tensor(3.0))
    torch.testing.assert_close(found, expected)


def test_candidates_contain_the_present_and_only_allowed_classes() -> None:
    torch.manual_seed(0)
    text = F.normalize(torch.randn(20, 8), dim=-1)
    allowed = torch.arange(20) < 15
    labels = torch.tensor([[[0, 0, 3], [7, IGNORE, 3]], [[14, 14, 14], [14, 14, 14]]])
    for _ in range(20):
        chosen = candidate_classes(labels, text, allowed, 8)
        assert chosen.shape == (2, 8)
        assert (chosen.diff(dim=1) > 0).all() and chosen.max() < 15
        assert {0, 3, 7} <= set(chosen[0].tolist()) and 14 in chosen[1]
    # Half of the seven others are the classes most similar to the only present one.
    nearest = (text @ text[14]).masked_fill(~allowed, -9).topk(4).indices[1:]
    assert set(nearest.tolist()) <= set(chosen[1].tolist())


def test_more_candidates_than_classes_are_all_of_them() -> None:
    text = F.normalize(torch.randn(5, 8), dim=-1)
    labels = torch.zeros(1, 2, 2, dtype=torch.long)
    chosen = candidate_classes(labels, text, torch.ones(5, dtype=torch.bool), 16)
    assert chosen.tolist() == [[0, 1, 2, 3, 4]]


def test_relabel() -> None:
    labels = torch.tensor([[[2, 5, 1, IGNORE]], [[0, 5, 9, 2]]])
    classes = torch.tensor([[1, 2, 5], [0, 2, 9]])
    expected = [[[1, 2, 0, IGNORE]], [[0, IGNORE, 2, 1]]]
    assert relabel(labels, classes, 10, IGNORE).tolist() == expected
