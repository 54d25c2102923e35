"""Classifiers of pixels: each image has its own selection, and heads and rows of all kinds."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from per_pixel.aspp import ASPP
from per_pixel.classifier import LinearClassifier, PixelHead, RankedClassifier
from per_pixel.criterion import Criterion
from per_pixel.ranking import PixelRanking
from segcore.errors import UserError
from segcore.rankseg.heads import build_multilabel_head
from segcore.rankseg.scores import DROPPED, build_rank_scores
from segcore.rankseg.selection import presence

K, KAPPA, WIDTH, CHANNELS = 11, 4, 12, 16


def ranking(kind: str | None = "encoder", **options: object) -> PixelRanking:
    share = kind in ("encoder", "decoder")
    head = kind and build_multilabel_head(
        kind,
        WIDTH,
        K,
        hidden_dim=CHANNELS,
        shared_width=CHANNELS if share else None,
        grid=(3, 3) if kind == "decoder" else None,
        dropout=0.0,
    )
    defaults = {"kappa": KAPPA, "test_kappa": KAPPA, "pool": 3, "share_classes": share}
    return PixelRanking(head, build_rank_scores("norm", KAPPA, False), **defaults | options)


def pixel_head(
    classifier: nn.Module, norm: Callable[[int], nn.Module] = nn.BatchNorm2d
) -> PixelHead:
    decoder = ASPP(WIDTH, CHANNELS, dilations=[1, 2], norm=norm)
    criterion = Criterion(multilabel_weight=3.0)
    return PixelHead(decoder, classifier, criterion, in_features=["res5"], dropout=0.0)


def ranked_head(kind: str | None = "encoder", **options: object) -> PixelHead:
    torch.manual_seed(0)
    classifier = RankedClassifier(CHANNELS, K, ranking(kind, **options))
    nn.init.normal_(classifier.class_table, std=0.3)
    with torch.no_grad():  # so that the logits depend on the image more than on the class
        for values in classifier.ranking.head.parameters() if kind else ():
            values.mul_(3 if values.dim() > 1 else 1)
    return pixel_head(classifier)


def features(number: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = 3 * torch.randn(number, WIDTH, 1, 1, generator=generator)
    return {"res5": images + torch.randn(number, WIDTH, 6, 8, generator=generator)}


def labels(number: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randint(-1, K + 1, (number, 24, 32), generator=generator)


@pytest.mark.parametrize("kind", ["encoder", "decoder", "gap"])
@torch.no_grad()
def test_each_image_has_its_own_selection(kind: str) -> None:
    head, maps = ranked_head(kind).eval(), features(6)["res5"]
    batch = head({"res5": maps})
    assert batch.scores.shape == (6, KAPPA, 6, 8) and batch.category_logits.shape == (6, K)
    assert len({tuple(ids) for ids in batch.classes.tolist()}) > 1
    for index in range(6):
        alone = head({"res5": maps[index : index + 1]})
        assert torch.equal(alone.classes[0], batch.classes[index])
        torch.testing.assert_close(alone.scores[0], batch.scores[index], atol=1e-5, rtol=1e-5)
        order = batch.category_logits[index].argsort(descending=True)
        assert torch.equal(order[:KAPPA], batch.classes[index])


@torch.no_grad()
def test_scores_are_those_of_the_class_table_in_the_order_of_ranks() -> None:
    head = ranked_head().eval()
    found, classifier = head(features()), head.classifier
    pixels = head.decoder([features()["res5"]])
    table, bias = classifier.class_table[0], classifier.class_bias[0]
    everything = F.conv2d(pixels, table[..., None, None], bias)
    for scores, every, ids in zip(found.scores, everything, found.classes, strict=True):
        expected = F.layer_norm(every[ids].movedim(0, -1), (KAPPA,)).movedim(-1, 0)
        torch.testing.assert_close(scores, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
@torch.no_grad()
def test_refined_rows_classify_pixels(kind: str) -> None:
    original, refined = ranked_head(kind).eval(), ranked_head(kind, class_rows="refined").eval()
    first, second = original(features()), refined(features())
    torch.testing.assert_close(first.category_logits, second.category_logits)
    assert torch.equal(first.classes, second.classes)
    assert not torch.allclose(first.scores, second.scores)
    tokens = F.adaptive_avg_pool2d(features()["res5"], 3).flatten(2).transpose(1, 2)
    table = refined.classifier.class_table
    ranked = refined.classifier.ranking(features()["res5"], table, None)
    rows = refined.classifier.ranking.head.refine(tokens, table)
    expected = torch.stack([row[ids] for row, ids in zip(rows, second.classes, strict=True)])
    torch.testing.assert_close(ranked.rows, expected)
    assert (ranked.pixels is not None) == (kind == "encoder")


def test_kappa_of_evaluation_differs_from_that_of_training() -> None:
    head = ranked_head(test_kappa=7)
    assert head(features()).classes.shape == (2, KAPPA)
    assert head.eval()(features()).scores.shape == (2, 7, 6, 8)


@torch.no_grad()
def test_dynamic_kappa_drops_improbable_classes() -> None:
    head = ranked_head().eval()
    found = head(features(6))
    probabilities = found.category_logits.sigmoid().gather(1, found.classes)
    confidence = float(probabilities[:, 1].median())
    head.classifier.ranking.confidence = confidence
    found = head(features(6))
    kept = (probabilities > confidence)[:, : found.classes.shape[1]]
    kept[:, 0] = True
    assert len(set(kept.sum(dim=1).tolist())) > 1
    dropped = ~kept[:, :, None, None].expand_as(found.scores)
    assert (found.scores[dropped] == DROPPED).all() and (found.scores[~dropped] > DROPPED).all()


def test_the_oracle_selects_the_classes_of_the_ground_truth() -> None:
    head = ranked_head(None, kappa=K, test_kappa=K)
    present = torch.zeros(2, K, dtype=torch.bool)
    present[0, [2, 9]] = present[1, [0, 4, 7]] = True
    found = head(features(), present)
    assert found.classes[:, :2].tolist() == [[2, 9], [0, 4]]
    assert found.scores.shape[1] == 3 and (found.scores[0, 2] == DROPPED).all()


@pytest.mark.parametrize("kind", ["encoder", "decoder", "gap"])
def test_losses_of_a_batch_are_the_means_of_its_images(kind: str) -> None:
    torch.manual_seed(0)
    classifier = RankedClassifier(CHANNELS, K, ranking(kind))
    head = pixel_head(classifier, norm=lambda channels: nn.GroupNorm(4, channels))
    present = presence(list(labels()), K)
    losses, found = head.losses(features(), labels(), present)
    assert set(losses) == {"loss_ce", "loss_ml"} and found.classes is not None
    alone = [
        head.losses(
            {"res5": features()["res5"][i : i + 1]}, labels()[i : i + 1], present[i : i + 1]
        )
        for i in range(2)
    ]
    for name, loss in losses.items():
        torch.testing.assert_close(loss, sum(each[name] for each, _ in alone) / 2)
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())


def test_pixels_of_unselected_classes_have_no_loss() -> None:
    head, target = ranked_head(), labels()
    found = head(features())
    loss = head.criterion(found, target, presence(list(target), K))["loss_ce"]
    scores = F.interpolate(found.scores, target.shape[-2:], mode="bilinear")
    total = 0.0
    for image, ids, each in zip(scores, found.classes.tolist(), target, strict=True):
        for rank, class_id in enumerate(ids):
            total -= image.log_softmax(dim=0)[rank][each == class_id].sum()
    torch.testing.assert_close(loss, total / target.numel())
    valid = Criterion(pixels="valid")(found, target, presence(list(target), K))["loss_ce"]
    selected = sum(
        int((each[..., None] == ids).any(-1).sum())
        for each, ids in zip(target, found.classes, strict=True)
    )
    torch.testing.assert_close(valid, total / selected)


def test_the_linear_classifier_scores_every_class() -> None:
    head = pixel_head(LinearClassifier(CHANNELS, K))
    losses, found = head.losses(features(), labels(), presence(list(labels()), K))
    assert set(losses) == {"loss_ce"} and found.classes is None and found.category_logits is None
    assert found.scores.shape == (2, K, 6, 8) and head.num_columns == head.num_classes == K


@pytest.mark.parametrize(
    ("kind", "rows", "message"),
    [
        ("encoder", "last", "CLASS_ROWS is 'last': use original or refined"),
        ("gap", "refined", "refines no class rows"),
        (None, "refined", "refines no class rows"),
    ],
)
def test_rows_that_do_not_exist_are_one_message(kind: str | None, rows: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        ranking(kind, class_rows=rows)
