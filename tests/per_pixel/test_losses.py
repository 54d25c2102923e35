"""The pixel loss is torch's cross-entropy; statistics are counts of pixels and classes."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from per_pixel.criterion import Criterion
from per_pixel.heads import PixelScores
from per_pixel.losses import accuracy, check_pixels, pixel_loss, precision, recalls, sample
from segcore.errors import UserError
from segcore.rankseg.losses import asymmetric_loss
from segcore.rankseg.selection import presence

SCORES = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.randint(-1, 6, (2, 9, 10), generator=torch.Generator().manual_seed(1))
IGNORED = (LABELS < 0) | (LABELS > 4)


@pytest.mark.parametrize("align_corners", [False, True])
def test_it_is_the_mean_over_all_or_over_valid_pixels(align_corners: bool) -> None:
    maps = F.interpolate(SCORES, (9, 10), mode="bilinear", align_corners=align_corners)
    losses = F.cross_entropy(maps, LABELS.masked_fill(IGNORED, -100), reduction="none")
    assert 0 < IGNORED.sum() < LABELS.numel() / 2
    for pixels, expected in (("all", losses.mean()), ("valid", losses[~IGNORED].mean())):
        loss = pixel_loss(SCORES, LABELS, pixels=pixels, align_corners=align_corners)
        torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("align_corners", [False, True])
def test_sampled_pixels_have_the_scores_of_the_resized_maps(align_corners: bool) -> None:
    maps = F.interpolate(SCORES, (9, 10), mode="bilinear", align_corners=align_corners)
    ids = torch.arange(90).view(1, 9, 10).expand(2, -1, -1)
    torch.manual_seed(0)
    scores, pixels = sample(SCORES, ids, 0.3, align_corners)
    assert scores.shape == (2, 5, 1, 27) and pixels.shape == (2, 1, 27)
    for image in range(2):
        assert len(pixels[image].unique()) == 27  # without repetitions
        expected = maps[image].flatten(1)[:, pixels[image, 0]]
        torch.testing.assert_close(scores[image, :, 0], expected)
    assert not torch.equal(pixels[0], pixels[1])


@pytest.mark.parametrize("pixels", ["all", "valid"])
def test_the_mean_of_sampled_losses_is_the_loss(pixels: str) -> None:
    torch.manual_seed(0)
    draws = [pixel_loss(SCORES, LABELS, pixels=pixels, sampled=0.2) for _ in range(400)]
    assert torch.stack(draws).std() > 0.05
    expected = pixel_loss(SCORES, LABELS, pixels=pixels)
    torch.testing.assert_close(torch.stack(draws).mean(), expected, atol=0.02, rtol=0)


def test_all_pixels_sampled_are_the_loss_and_its_gradient() -> None:
    scores = SCORES.clone().requires_grad_()
    maps, labels = sample(scores, LABELS, 1.0, False)
    every, plain = (pixel_loss(maps, labels), pixel_loss(scores, LABELS))
    torch.testing.assert_close(every, plain)
    gradients = [torch.autograd.grad(loss, scores)[0] for loss in (every, plain)]
    torch.testing.assert_close(*gradients)


def test_without_a_valid_pixel_it_is_zero_and_its_gradient_too() -> None:
    scores = SCORES.clone().requires_grad_()
    loss = pixel_loss(scores, torch.full_like(LABELS, 255), pixels="valid")
    loss.backward()
    assert loss == 0 and not scores.grad.any()


def test_a_wrong_name_of_the_mean_is_refused() -> None:
    with pytest.raises(UserError, match=r"PER_PIXEL\.PIXELS is 'some': use all or valid"):
        check_pixels("some")


def test_selected_classes_are_columns() -> None:
    """The loss of all classes in another order is the same."""
    order = torch.tensor([[3, 0, 4, 1, 2], [1, 2, 3, 4, 0]])
    columns = SCORES.gather(1, order[:, :, None, None].expand_as(SCORES))
    nothing = presence(list(LABELS), 5)
    ranked = Criterion()(PixelScores(columns, order), LABELS, nothing)["loss_ce"]
    torch.testing.assert_close(ranked, Criterion()(PixelScores(SCORES), LABELS, nothing)["loss_ce"])


def test_pixels_of_other_classes_are_ignored_but_counted() -> None:
    classes = torch.tensor([[4, 1], [0, 2]])
    targets = torch.full_like(LABELS, -1)
    for image, ids in enumerate(classes):
        for rank, number in enumerate(ids):
            targets[image][LABELS[image] == number] = rank
    scores = SCORES[:, :2]
    losses = Criterion(multilabel_weight=3.0, gammas=(4.0, 1.0))(
        PixelScores(scores, classes, SCORES[:, :, 0, 0]), LABELS, presence(list(LABELS), 5)
    )
    torch.testing.assert_close(losses["loss_ce"], pixel_loss(scores, targets))
    expected = asymmetric_loss(
        SCORES[:, :, 0, 0], presence(list(LABELS), 5), gamma_neg=4.0, gamma_pos=1.0
    )
    torch.testing.assert_close(losses["loss_ml"], 3 * expected)


def test_accuracy_counts_labelled_pixels() -> None:
    best = F.interpolate(SCORES, (9, 10), mode="bilinear").argmax(dim=1)
    correct = ((best == LABELS) & ~IGNORED).sum() / (~IGNORED).sum()
    torch.testing.assert_close(accuracy(SCORES, LABELS, None, 5, False), correct)
    order = torch.arange(5).flip(0).expand(2, -1)
    torch.testing.assert_close(accuracy(SCORES.flip(1), LABELS, order, 5, False), correct)
    assert accuracy(SCORES, torch.full_like(LABELS, 9), None, 5, False).isnan()


def test_recalls_and_precision() -> None:
    labels = torch.tensor([[[0, 0, 0, 1], [255, 2, 2, 2]], [[255] * 4] * 2])
    classes = torch.tensor([[0, 4, 1], [0, 1, 2]])
    of_pixels, of_image = recalls(labels, classes, 5)
    assert of_pixels[0] == 4 / 7 and of_image[0] == 2 / 3
    assert of_pixels[1].isnan() and of_image[1].isnan()
    assert precision(labels, classes, 5).tolist() == [pytest.approx(2 / 3), 0]


def test_recalls_equal_the_reference(golden) -> None:
    with np.load(golden / "per_pixel" / "segmenter_head_rankseg.npz") as arrays:
        labels = torch.from_numpy(arrays["labels"].astype(np.int64))[:, 0]
        classes = torch.from_numpy(arrays["topk_index"].astype(np.int64))
        of_pixels, of_image = recalls(labels, classes, 171)
        np.testing.assert_allclose(of_pixels, arrays["pixel_recall"], rtol=1e-5)
        np.testing.assert_allclose(of_image, arrays["image_recall"], rtol=1e-5)
